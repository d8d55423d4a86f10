"""Helpers of the end-to-end tests for buckets, runs and rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
import psutil
import pytest
from botocore.client import BaseClient

from infra.local.airflow import DAG_ID, AirflowService
from infra.local.airflow_client import TaskInstance
from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.tables.results import ResultsTable
from moodlake.settings import Settings


@contextmanager
def started(stack: Stack) -> Iterator[Stack]:
    """Start the stack, and point this process at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AirflowService, "PARSE_SECONDS", 600)  # no test changes a DAG file
        with stack:
            for name, value in stack.environment().items():
                patch.setenv(name, value)
            yield stack


def processes(stack: Stack) -> list[psutil.Process]:
    """Return all running processes of a stack."""
    roots = [
        psutil.Process(child.pid)
        for service in stack.services
        for child in service.children.values()
        if child.exit_code() is None
    ]
    return [*roots, *(child for root in roots for child in root.children(recursive=True))]


def addresses_of(stack: Stack) -> set[str]:
    """Return the addresses that the processes of a stack listen on."""
    addresses = set()
    for process in processes(stack):
        with suppress(psutil.NoSuchProcess):  # it has ended
            addresses.update(
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            )
    return addresses


def fill(s3: BaseClient, bucket: str, objects: dict[str, bytes]) -> None:
    """Create a bucket that holds these objects, given by key."""
    s3.create_bucket(Bucket=bucket)
    for key, data in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)


def rows_of(stack: Stack, bucket: str) -> pd.DataFrame:
    """Return the results of a bucket, indexed by key."""
    rows = ResultsTable(stack.settings.results_table).read().to_pandas()
    return rows[rows["bucket"] == bucket].set_index("key")


def run_dag(stack: Stack, dag_id: str = DAG_ID, **conf: Any) -> str:
    """Trigger the DAG and wait; return the run's final state."""
    return wait_for_run(stack, stack.airflow.client.trigger(dag_id, conf), dag_id)


def wait_for_run(stack: Stack, run_id: str, dag_id: str = DAG_ID, seconds: int = 400) -> str:
    """Wait for a run to end; return its final state."""
    client = stack.airflow.client
    for _ in range(seconds):
        state = client.run_state(dag_id, run_id)
        if state in ("success", "failed"):
            return state
        time.sleep(1)
    raise AssertionError(
        f"{run_id} is not done after {seconds} s: {client.task_instances(dag_id, run_id)}"
    )


def scoring_process(stack: Stack, run_id: str) -> tuple[psutil.Process, TaskInstance]:
    """Wait for a running scoring task of a run; return its process and its task instance."""
    for _ in range(1400):
        for task in stack.airflow.client.task_instances(DAG_ID, run_id):
            if task.task_id == "score" and task.state == "running":
                for process in psutil.process_iter(["cmdline"]):
                    title = " ".join(process.info["cmdline"] or ()).strip()
                    if title == f"airflow worker -- {task.id}":
                        return process, task
        time.sleep(0.3)
    raise AssertionError(f"no scoring task of {run_id} is running after 420 s")


def score_all(run_id: str, shards: list[str]) -> None:
    """Score all shards of a run in this process."""
    settings = Settings.from_environment()
    for shard in shards:
        pipeline.score_shard(run_id, shard, settings)


def finish(stack: Stack, run_id: str, params: RunParams) -> None:
    """Do a whole run in this process, in the steps of the DAG."""
    score_all(run_id, pipeline.plan_run(run_id, params, stack.settings))
    pipeline.publish(run_id, stack.settings)
