"""Airflow with Celery workers writes the same rows, even if a worker dies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from infra.celery.airflow import CeleryAirflow
from infra.celery.executables import MissingExecutable, find_executable
from infra.local.airflow import DAG_ID, POOL
from infra.local.ports import HOST, ClusterPorts
from infra.local.service import NotReady
from infra.local.torchserve import TorchServeService
from infra.stack import Stack
from moodlake.cli import app
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from moodlake.scoring.tables.results import ResultsTable
from tests.e2e.steps import (
    addresses_of,
    fill,
    processes,
    scoring_process,
    started,
    wait_for_run,
)
from tests.images_made import astronaut_image, encode, jpeg

pytestmark = pytest.mark.e2e

OF_THE_RUN = ["run_id", "shard_id", "scored_at"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Stack]:
    """A stack with two workers."""
    try:
        for program in ("redis-server", "postgres", "initdb"):
            find_executable(program)
    except MissingExecutable as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        patch.setattr(CeleryAirflow, "LOST_AFTER", 15)
        # Scheduled runs would only take time.
        patch.setenv("AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE", "False")
        with started(Stack(Path(folder), ClusterPorts.free(), workers=2)) as stack:
            yield stack
            family = processes(stack)
        _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []


def test_the_status_includes_postgresql_and_redis(cluster: Stack) -> None:
    done = CliRunner().invoke(app, ["status", "--state", str(cluster.state)])
    assert done.exit_code == 0, done.output
    assert [line.split(" at ")[0] for line in done.output.splitlines()] == [
        f"✓ {name}" for name in ("PostgreSQL", "Redis", "S3", "TorchServe", "Airflow", "nginx")
    ]
    assert "2 workers" in done.output


def test_the_pool_has_a_slot_for_each_worker_of_the_server(cluster: Stack) -> None:
    assert cluster.airflow.client.pools()[POOL] == TorchServeService.WORKERS


def test_all_processes_listen_on_the_loopback_address_only(cluster: Stack) -> None:
    assert addresses_of(cluster) == {HOST}


def test_a_worker_that_dies_changes_no_row(cluster: Stack, tmp_path: Path) -> None:
    photo = astronaut_image()
    photos = {f"{n:03d}.jpg": encode(photo.rotate(n), "JPEG", quality=90) for n in range(60)}
    fill(s3_client(), "shared", photos | {"broken.jpg": b"no", "small.jpg": jpeg()})
    conf = {"shard_size": 20, "faces": "all"}
    run_id = cluster.airflow.client.trigger(DAG_ID, {"bucket": "shared", **conf})
    worker, map_index = kill_a_worker_at_work(cluster, run_id)
    with pytest.raises(NotReady, match=f"waiting for {worker}"):
        cluster.airflow.check()
    assert wait_for_run(cluster, run_id, seconds=500) == "success"
    tasks = cluster.airflow.client.task_instances(DAG_ID, run_id)
    assert {task.map_index: task.attempts for task in tasks}[map_index] > 1

    settings = cluster.settings.model_copy(update={"results_uri": str(tmp_path)})
    for shard in pipeline.plan_run("here", RunParams("shared", **conf), settings):
        pipeline.score_shard("here", shard, settings)
    pipeline.publish("here", settings)
    rows = rows_in(cluster.settings.results_table)
    assert rows.num_rows == len(photos) + 2
    assert rows.equals(rows_in(settings.results_table))


def kill_a_worker_at_work(cluster: Stack, run_id: str) -> tuple[str, int]:
    """SIGKILL a worker and its children; return its name and its task's map index."""
    scoring, task = scoring_process(cluster, run_id)
    for name in cluster.airflow.workers:
        worker = psutil.Process(cluster.airflow.children[name].pid)
        family = [worker, *worker.children(recursive=True)]
        if scoring in family:
            for process in family:
                process.kill()
            return name, task.map_index
    raise AssertionError(f"{scoring} belongs to no worker")


def rows_in(table: str) -> pa.Table:
    return ResultsTable(table).read().drop_columns(OF_THE_RUN)
