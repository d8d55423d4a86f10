"""Maintenance of the tables on the real S3 server, by Airflow."""

from __future__ import annotations

import pytest
from botocore.client import BaseClient
from deltalake import DeltaTable

from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources import storage
from tests.e2e.steps import fill, finish, rows_of, run_dag, score_all
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e


def test_airflow_compacts_tables_during_a_run(stack: Stack, s3: BaseClient) -> None:
    keys = [f"{number}.jpg" for number in range(6)]
    fill(s3, "kept-up", {key: jpeg(number) for number, key in enumerate(keys)})
    for key in keys[:4]:
        finish(stack, f"kept-up-{key}", RunParams("kept-up", prefix=key, faces="none"))
    params = RunParams("kept-up", faces="none")
    shards = pipeline.plan_run("kept-up-rest", params, stack.settings)
    before = rows_of(stack, "kept-up")
    assert run_dag(stack, "maintain", reports_days=1) == "success"
    assert rows_of(stack, "kept-up").equals(before)
    files = DeltaTable(stack.settings.results_table).file_uris()
    assert len(files) == len({uri.rpartition("/")[0] for uri in files})
    assert storage.list_files(f"{stack.settings.results_uri}/work/kept-up-rest")
    score_all("kept-up-rest", shards)
    pipeline.publish("kept-up-rest", stack.settings)
    assert sorted(rows_of(stack, "kept-up").index) == keys
