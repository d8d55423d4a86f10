"""Kills while Airflow runs: in the end, each object has one row. More are in tests/chaos."""

from __future__ import annotations

from collections import Counter

import psutil
import pytest
from botocore.client import BaseClient

from infra.local.airflow import DAG_ID
from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.serving.client import ServerError
from tests.e2e.steps import fill, finish, rows_of, scoring_process, wait_for_run
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e


def test_airflow_retries_a_killed_task(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-in-airflow", {key: jpeg(number) for number, key in enumerate(keys)})
    conf = {"bucket": "killed-in-airflow", "shard_size": 20, "faces": "none"}
    run_id = stack.airflow.client.trigger(DAG_ID, conf)
    process, killed = scoring_process(stack, run_id)
    process.kill()
    assert wait_for_run(stack, run_id) == "success"
    tasks = stack.airflow.client.task_instances(DAG_ID, run_id)
    assert {task.map_index: task.attempts for task in tasks}[killed.map_index] > 1
    assert Counter(rows_of(stack, "killed-in-airflow").index) == Counter(keys)


def test_a_run_resumes_after_the_scheduler_is_killed(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-scheduler", {key: jpeg(number) for number, key in enumerate(keys)})
    conf = {"bucket": "killed-scheduler", "shard_size": 10, "faces": "none"}
    run_id = stack.airflow.client.trigger(DAG_ID, conf)
    scoring_process(stack, run_id)
    scheduler = psutil.Process(stack.airflow.children["airflow-scheduler"].pid)
    for process in (scheduler, *scheduler.children(recursive=True)):
        process.kill()
    stack.airflow.start_part("scheduler")
    assert wait_for_run(stack, run_id, seconds=500) == "success"
    assert Counter(rows_of(stack, "killed-scheduler").index) == Counter(keys)


def test_a_stopped_server_loses_and_duplicates_no_rows(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-server", {key: jpeg(number) for number, key in enumerate(keys)})
    params = RunParams("killed-server", shard_size=20, faces="none")
    shards = pipeline.plan_run("server-1", params, stack.settings)
    pipeline.score_shard("server-1", shards[0], stack.settings)
    for service, down in ((stack.gateway, ["nginx"]), (stack.torchserve, ["TorchServe", "nginx"])):
        service.stop()
        try:
            with pytest.raises(ServerError, match="moodlake up"):
                pipeline.score_shard("server-1", shards[1], stack.settings)
            assert [item.name for item in stack.status() if not item.ready] == down
        finally:
            service.start()
            service.wait()
            stack.gateway.wait()
    finish(stack, "server-2", params)
    assert Counter(rows_of(stack, "killed-server").index) == Counter(keys)
