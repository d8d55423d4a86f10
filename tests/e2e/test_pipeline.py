"""Photos dropped in a bucket become rows in a table: all real parts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
from botocore.client import BaseClient
from PIL import Image
from typer.testing import CliRunner

from infra.local.airflow import DAG_ID
from infra.local.ports import Ports
from infra.local.stack import Stack, StackError, attach
from moodlake.cli import app
from moodlake.model import Model
from moodlake.scoring import pipeline, storage
from moodlake.scoring.client import ServerClient, ServerError
from moodlake.scoring.inventory import SourceError, s3_client
from moodlake.scoring.pipeline import RunParams
from moodlake.scoring.tables import ResultsTable
from moodlake.settings import RELEASED_ARCHIVE, Settings
from tests.images_made import animated_gif, encode, jpeg, png_bomb, sixteen_bit_png

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def s3(stack: Stack) -> BaseClient:
    return s3_client()


def fill(s3: BaseClient, bucket: str, objects: dict[str, bytes]) -> None:
    s3.create_bucket(Bucket=bucket)
    for key, data in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)


def rows_of(stack: Stack, bucket: str) -> pd.DataFrame:
    rows = ResultsTable(stack.settings.results_table).read().to_pandas()
    return rows[rows["bucket"] == bucket].set_index("key")


def run_dag(stack: Stack, **conf: Any) -> str:
    """Trigger the DAG and wait; returns the run's last state."""
    return wait_for_run(stack, stack.airflow.client.trigger(DAG_ID, conf))


def wait_for_run(stack: Stack, run_id: str) -> str:
    client = stack.airflow.client
    for _ in range(240):
        state = client.run_state(DAG_ID, run_id)
        if state in ("success", "failed"):
            return state
        time.sleep(0.5)
    raise AssertionError(f"{run_id} did not end: {client.task_instances(DAG_ID, run_id)}")


def astronaut() -> bytes:
    skimage = pytest.importorskip("skimage")
    return (Path(skimage.__file__).parent / "data" / "astronaut.png").read_bytes()


def test_airflow_turns_photos_into_rows(stack: Stack, s3: BaseClient) -> None:
    zoo = {
        "astronaut.png": astronaut(),
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "truncated.jpg": astronaut_jpeg()[:9000],
        "bomb.png": png_bomb(),
        "cmyk.jpg": encode(Image.new("CMYK", (64, 64)), "JPEG"),
        "sixteen.png": sixteen_bit_png(),
        "animated.gif": animated_gif(),
        "folder/": b"",
        "a b+é ü&?.jpg": astronaut_jpeg(),
    }
    fill(s3, "zoo", zoo)
    assert run_dag(stack, bucket="zoo", shard_size=4) == "success"
    rows = rows_of(stack, "zoo")
    assert sorted(rows.index) == sorted(zoo)
    assert rows.loc["astronaut.png", "dominant"] == "happiness"
    assert rows.loc["a b+é ü&?.jpg", "dominant"] == "happiness"
    reasons = rows["reason"].dropna().to_dict()
    assert reasons == {
        "empty.jpg": "empty",
        "folder/": "empty",
        "text.jpg": "not_an_image",
        "truncated.jpg": "truncated",
        "bomb.png": "too_many_pixels",
        "cmyk.jpg": "no_face",
        "sixteen.png": "no_face",
        "animated.gif": "no_face",
    }
    assert run_dag(stack, bucket="zoo") == "success"
    assert len(rows_of(stack, "zoo")) == len(zoo)


def astronaut_jpeg() -> bytes:
    from io import BytesIO

    return encode(Image.open(BytesIO(astronaut())).convert("RGB"), "JPEG", quality=95)


def test_a_second_stack_leaves_the_first_alone(stack: Stack) -> None:
    second = Stack(stack.state, Ports.free())
    with pytest.raises(StackError, match="running already"), second:
        pass
    assert [item.ready for item in attach(stack.state).status()] == [True, True, True]


def test_a_missing_bucket_fails_the_run(stack: Stack) -> None:
    assert run_dag(stack, bucket="no-such-bucket") == "failed"


def test_served_is_the_same_as_in_process(stack: Stack) -> None:
    images = [astronaut(), b"", astronaut_jpeg()]
    server = ServerClient(stack.settings.server_url, stack.settings.server_keys)
    assert server.score(images) == Model.load(RELEASED_ARCHIVE).score(images)


def test_one_image_as_the_body(stack: Stack) -> None:
    server = ServerClient(stack.settings.server_url, stack.settings.server_keys)
    answer = httpx.post(
        f"{stack.settings.server_url}/predictions/emotions",
        content=astronaut(),
        headers={"Authorization": f"Bearer {server._token}"},
    )
    assert answer.json()["predictions"][0]["dominant"] == "happiness"


def test_a_body_that_is_no_image_is_refused_in_words(stack: Stack) -> None:
    server = ServerClient(stack.settings.server_url, stack.settings.server_keys)
    answer = httpx.post(
        f"{stack.settings.server_url}/predictions/emotions",
        json={"image": "here"},
        headers={"Authorization": f"Bearer {server._token}"},
    )
    assert answer.status_code == 400
    assert "application/octet-stream" in answer.json()["message"]


def test_run_env_and_table_commands(
    stack: Stack, s3: BaseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(s3, "commanded", {"in/one.png": astronaut(), "out/two.png": astronaut()})

    def moodlake(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--state", str(stack.state)])
        assert result.exit_code == 0, result.output
        return result.output

    assert f"export AWS_ENDPOINT_URL={stack.s3.url}" in moodlake("env").splitlines()
    output = moodlake("run", "--bucket", "commanded", "--prefix", "in/")
    assert "1 new rows" in output
    assert list(rows_of(stack, "commanded").index) == ["in/one.png"]
    assert "happiness" in moodlake("table")
    assert "READY" not in moodlake("status")


def test_score_command_through_the_server(stack: Stack, s3: BaseClient, tmp_path: Path) -> None:
    fill(s3, "by-hand", {"one.png": astronaut(), "two.jpg": b"no"})
    out = tmp_path / "out.csv"
    url = stack.settings.server_url
    arguments = ["score", "s3://by-hand", "--endpoint", url, "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(out).set_index("key")
    assert rows.loc["one.png", "dominant"] == "happiness"
    assert rows.loc["two.jpg", "reason"] == "not_an_image"


def test_wrong_credentials_are_told(stack: Stack, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["score", "s3://zoo", "--out", str(tmp_path / "out.csv")],
        env={"AWS_SECRET_ACCESS_KEY": "wrong"},
    )
    assert result.exit_code == 1
    assert "AWS_SECRET_ACCESS_KEY" in result.output
    assert not list(tmp_path.iterdir())


def test_an_object_deleted_before_it_is_read_has_its_row(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "leaving", {"here.jpg": jpeg(1), "gone.jpg": jpeg(2), "changed.jpg": jpeg(3)})
    params = RunParams("leaving", faces="none")
    shards = pipeline.plan_run("leaving-1", params, stack.settings)
    s3.delete_object(Bucket="leaving", Key="gone.jpg")
    s3.put_object(Bucket="leaving", Key="changed.jpg", Body=jpeg(4))
    assert [pipeline.score_shard("leaving-1", shard, stack.settings) for shard in shards] == [3]
    pipeline.publish("leaving-1", stack.settings)
    rows = rows_of(stack, "leaving")
    assert rows["reason"].dropna().to_dict() == {"gone.jpg": "vanished", "changed.jpg": "vanished"}


def score_all(run_id: str, shards: list[str]) -> None:
    settings = Settings.from_environment()
    for shard in shards:
        pipeline.score_shard(run_id, shard, settings)


def finish(stack: Stack, run_id: str, params: RunParams) -> None:
    """A whole run, as the DAG does it."""
    score_all(run_id, pipeline.plan_run(run_id, params, stack.settings))
    pipeline.publish(run_id, stack.settings)


def test_airflow_tries_a_killed_task_again(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-in-airflow", {key: jpeg(number) for number, key in enumerate(keys)})
    conf = {"bucket": "killed-in-airflow", "shard_size": 20, "faces": "none"}
    run_id = stack.airflow.client.trigger(DAG_ID, conf)
    killed = kill_scoring_task(stack, run_id)
    assert wait_for_run(stack, run_id) == "success"
    tasks = stack.airflow.client.task_instances(DAG_ID, run_id)
    assert {task.map_index: task.tries for task in tasks}[killed] > 1
    assert Counter(rows_of(stack, "killed-in-airflow").index) == Counter(keys)


def kill_scoring_task(stack: Stack, run_id: str) -> int:
    """SIGKILL the process of the first scoring task that is seen; returns its map index."""
    for _ in range(600):
        for task in stack.airflow.client.task_instances(DAG_ID, run_id):
            if task.task_id == "score" and task.state == "running":
                for process in psutil.process_iter(["cmdline"]):
                    title = " ".join(process.info["cmdline"] or ()).strip()
                    if title == f"airflow worker -- {task.id}":
                        process.kill()
                        return task.map_index
        time.sleep(0.1)
    raise AssertionError(f"no scoring task of {run_id} was seen")


def test_a_killed_scoring_task_loses_and_doubles_nothing(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(120)]
    fill(s3, "killed-task", {key: jpeg(number) for number, key in enumerate(keys)})
    params = RunParams("killed-task", shard_size=20, faces="none")
    shards = pipeline.plan_run("killed-1", params, stack.settings)
    task = multiprocessing.get_context("spawn").Process(target=score_all, args=("killed-1", shards))
    task.start()
    while not staged(stack, "killed-1", shards):
        time.sleep(0.02)
    assert task.pid
    os.kill(task.pid, signal.SIGKILL)
    task.join()
    assert 0 < staged(stack, "killed-1", shards) < len(shards)
    with pytest.raises(pipeline.RunIncomplete, match="was not scored"):
        pipeline.publish("killed-1", stack.settings)
    finish(stack, "killed-2", params)
    assert Counter(rows_of(stack, "killed-task").index) == Counter(keys)


def staged(stack: Stack, run_id: str, shards: list[str]) -> int:
    folder = f"{stack.settings.results_uri}/work/{run_id}"
    return sum(storage.read_bytes(f"{folder}/{shard}.arrow") is not None for shard in shards)


def test_publishing_goes_on_after_a_kill(
    stack: Stack, s3: BaseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{number}.jpg" for number in range(6)]
    fill(s3, "half-published", {key: jpeg(number) for number, key in enumerate(keys)})
    params = RunParams("half-published", shard_size=2, faces="none")
    score_all("half-1", pipeline.plan_run("half-1", params, stack.settings))

    deleted = []

    def delete_one_then_die(uri: str) -> None:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(uri)
        storage.delete(uri)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "storage", SimpleNamespace(**vars(storage)))
        patch.setattr(pipeline.storage, "delete", delete_one_then_die)
        with pytest.raises(KeyboardInterrupt):
            pipeline.publish("half-1", stack.settings)
    assert pipeline.publish("half-1", stack.settings)["objects"] == len(keys)
    assert Counter(rows_of(stack, "half-published").index) == Counter(keys)
    with pytest.raises(pipeline.SetupError, match="published already"):
        pipeline.publish("half-1", stack.settings)


def test_racing_runs_commit_each_object_once(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number}.jpg" for number in range(12)]
    fill(s3, "raced", {key: jpeg(number) for number, key in enumerate(keys)})
    runs = {
        f"raced-{size}": pipeline.plan_run(
            f"raced-{size}", RunParams("raced", shard_size=size, faces="none"), stack.settings
        )
        for size in (3, 5)
    }
    for run_id, shards in runs.items():
        score_all(run_id, shards)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda run_id: pipeline.publish(run_id, stack.settings), runs))
    assert Counter(rows_of(stack, "raced").index) == Counter(keys)


# Last: it takes TorchServe away and brings it back.
def test_a_killed_server_loses_and_doubles_nothing(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-server", {key: jpeg(number) for number, key in enumerate(keys)})
    params = RunParams("killed-server", shard_size=20, faces="none")
    shards = pipeline.plan_run("server-1", params, stack.settings)
    pipeline.score_shard("server-1", shards[0], stack.settings)
    stack.torchserve.stop()
    with pytest.raises(ServerError, match="moodlake up"):
        pipeline.score_shard("server-1", shards[1], stack.settings)
    assert not next(item for item in stack.status() if item.name == "TorchServe").ready
    stack.torchserve.start()
    stack.wait(stack.torchserve)
    finish(stack, "server-2", params)
    assert Counter(rows_of(stack, "killed-server").index) == Counter(keys)


def test_planning_a_missing_bucket_is_explained(stack: Stack) -> None:
    with pytest.raises(SourceError, match="does not exist; create it"):
        pipeline.plan_run("nowhere", RunParams("no-such-bucket"), stack.settings)
