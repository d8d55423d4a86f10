"""Kills and concurrent runs: in the end, each object has one row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
from botocore.client import BaseClient

from infra.local.airflow import DAG_ID
from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run import staging
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources import storage
from moodlake.serving.client import ServerError
from tests.e2e.steps import fill, finish, rows_of, score_all, scoring_process, wait_for_run
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


def test_a_killed_scoring_task_loses_and_duplicates_no_rows(stack: Stack, s3: BaseClient) -> None:
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
    """Return the number of shards whose rows are staged."""
    folder = f"{stack.settings.results_uri}/work/{run_id}"
    return sum(storage.read_bytes(f"{folder}/{shard}.arrow") is not None for shard in shards)


def test_publishing_resumes_after_a_kill(
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
        patch.setattr(staging, "storage", SimpleNamespace(**vars(storage)))
        patch.setattr(staging.storage, "delete", delete_one_then_die)
        with pytest.raises(KeyboardInterrupt):
            pipeline.publish("half-1", stack.settings)
    assert pipeline.publish("half-1", stack.settings)["objects"] == len(keys)
    assert Counter(rows_of(stack, "half-published").index) == Counter(keys)
    assert pipeline.publish("half-1", stack.settings)["objects"] == len(keys)


def test_concurrent_runs_commit_each_object_once(stack: Stack, s3: BaseClient) -> None:
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


def test_an_unreachable_server_loses_and_duplicates_no_rows(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number:03d}.jpg" for number in range(60)]
    fill(s3, "killed-server", {key: jpeg(number) for number, key in enumerate(keys)})
    params = RunParams("killed-server", shard_size=20, faces="none")
    shards = pipeline.plan_run("server-1", params, stack.settings)
    pipeline.score_shard("server-1", shards[0], stack.settings)
    stack.gateway.stop()
    try:
        with pytest.raises(ServerError, match="moodlake up"):
            pipeline.score_shard("server-1", shards[1], stack.settings)
        assert [item.name for item in stack.status() if not item.ready] == ["nginx"]
    finally:
        stack.gateway.start()
        stack.gateway.wait()
    finish(stack, "server-2", params)
    assert Counter(rows_of(stack, "killed-server").index) == Counter(keys)
