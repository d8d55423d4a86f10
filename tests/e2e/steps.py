"""What the end-to-end tests do with buckets, runs and rows."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
from botocore.client import BaseClient

from infra.local.airflow import DAG_ID
from infra.local.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.results import ResultsTable
from moodlake.scoring.work import RunParams
from moodlake.settings import Settings


def fill(s3: BaseClient, bucket: str, objects: dict[str, bytes]) -> None:
    s3.create_bucket(Bucket=bucket)
    for key, data in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)


def rows_of(stack: Stack, bucket: str) -> pd.DataFrame:
    rows = ResultsTable(stack.settings.results_table).read().to_pandas()
    return rows[rows["bucket"] == bucket].set_index("key")


def run_dag(stack: Stack, dag_id: str = DAG_ID, **conf: Any) -> str:
    """Trigger the DAG and wait; returns the run's last state."""
    return wait_for_run(stack, stack.airflow.client.trigger(dag_id, conf), dag_id)


def wait_for_run(stack: Stack, run_id: str, dag_id: str = DAG_ID) -> str:
    client = stack.airflow.client
    for _ in range(240):
        state = client.run_state(dag_id, run_id)
        if state in ("success", "failed"):
            return state
        time.sleep(0.5)
    raise AssertionError(f"{run_id} did not end: {client.task_instances(dag_id, run_id)}")


def score_all(run_id: str, shards: list[str]) -> None:
    settings = Settings.from_environment()
    for shard in shards:
        pipeline.score_shard(run_id, shard, settings)


def finish(stack: Stack, run_id: str, params: RunParams) -> None:
    """A whole run, as the DAG does it."""
    score_all(run_id, pipeline.plan_run(run_id, params, stack.settings))
    pipeline.publish(run_id, stack.settings)
