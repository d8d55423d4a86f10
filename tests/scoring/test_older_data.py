"""Data that earlier versions wrote: plans, runs tables and results tables are still read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from moodlake.scoring import pipeline
from moodlake.scoring.reports.diff import compare
from moodlake.scoring.reports.drift import judge
from moodlake.scoring.reports.run_report import render_run
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.staging import Staging
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.objects import SetupError
from moodlake.scoring.tables.current import ordered_rows
from moodlake.scoring.tables.lineage import trace
from moodlake.scoring.tables.queries import Filter, choices, first_rows, overview
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.runs import RUNS_SCHEMA, latest_run, newest_runs, record_run
from moodlake.scoring.tables.summary import examples_of, profile_of
from moodlake.settings import Settings
from tests.scoring.rows import MODEL, SPACE, planned, row, table

SHARD = "0123456789abcdef0123456789abcdef"
PLAN: dict[str, Any] = {
    "run_id": "run",
    "params": {
        "bucket": "bucket",
        "prefix": "",
        "pattern": "",
        "inventory": "",
        "batch_size": 16,
        "shard_size": 1024,
        "faces": None,
        "max_broken": None,
    },
    "model": {"name": "emotions", "version": "3.2", "digest": "d" * 64},
    "space": {"name": SPACE.name, "emotions": list(SPACE.emotions)},
    "provenance": {"data_name": "ferplus"},
    "shard_ids": [SHARD],
    "tried": [SHARD],
    "commits": 3,
    "listed": 20,
    "waiting": 10,
    "started_by": "admin",
    "started_at": "2026-11-01T00:00:00+00:00",
    "seconds": {"plan": 0.5},
    "reference": None,
}
"""run.json as version 3.2 wrote it."""
RUNS_OF_2_0 = RUNS_SCHEMA.names[: RUNS_SCHEMA.names.index("images_per_second")]
ROW_COLUMNS_SINCE_2_0 = ["last_modified", "brightness"]
"""Columns that the tables of version 2.0 lack."""


def stage(folder: Path, plan: dict[str, Any]) -> Staging:
    storage.write_bytes(f"{folder}/work/run/run.json", json.dumps(plan).encode())
    return Staging(str(folder), "run")


def run_record(**changes: Any) -> dict[str, Any]:
    """A row of the runs table as version 3.2 wrote it."""
    started_at = datetime.now(UTC) - timedelta(hours=1)
    record = dict.fromkeys(RUNS_SCHEMA.names) | {
        "run_id": "run",
        "bucket": "bucket",
        "prefix": "",
        "listed": 20,
        "waiting": 10,
        "model_name": MODEL.name,
        "model_version": MODEL.version,
        "model_digest": MODEL.digest,
        "provenance": '{"data_name": "ferplus"}',
        "started_by": "admin",
        "params": json.dumps(PLAN["params"]),
        "objects": 2,
        "bytes": 20,
        "shards": 1,
        "scored": 2,
        "rejected": 0,
        "reasons": "{}",
        "started_at": started_at,
        "ended_at": started_at + timedelta(minutes=1),
    }
    return record | changes


def test_a_plan_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    run = stage(tmp_path, PLAN).read_run()
    assert run.params == RunParams("bucket")
    assert (run.shard_ids, run.retried) == ((SHARD,), (SHARD,))
    assert (run.listed, run.pending_objects, run.commits) == (20, 10, 3)
    assert json.loads(run.to_json()) == PLAN


def test_a_plan_may_lack_parameters_that_are_newer(tmp_path: Path) -> None:
    params = {"bucket": "bucket", "prefix": "2026/", "batch_size": 8, "shard_size": 32}
    older = {name: value for name, value in PLAN.items() if name not in ("seconds", "reference")}
    run = stage(tmp_path, older | {"params": params}).read_run()
    assert run.params == RunParams("bucket", "2026/", batch_size=8, shard_size=32)


@pytest.mark.parametrize("missing", ["tried", "waiting", "model"])
def test_an_incompatible_plan_is_an_error_with_advice(tmp_path: Path, missing: str) -> None:
    plan = {name: value for name, value in PLAN.items() if name != missing}
    with pytest.raises(SetupError, match=r"incompatible version .* trigger a new run"):
        stage(tmp_path, plan).read_run()


def test_a_run_planned_by_an_earlier_version_is_published(tmp_path: Path) -> None:
    settings = Settings(results_uri=str(tmp_path))
    plan = PLAN | {"model": {"name": MODEL.name, "version": MODEL.version, "digest": MODEL.digest}}
    rows = [row(key) | {"shard_id": SHARD} for key in "ab"]
    stage(tmp_path, plan).write_rows(SHARD, table(*rows), {})
    record = pipeline.publish("run", settings)
    assert (record["objects"], record["listed"], record["waiting"]) == (2, 20, 10)
    assert json.loads(record["params"]) == PLAN["params"]


def test_an_older_runs_table_is_read_and_extended(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    older = pa.Table.from_pylist([run_record()], schema=RUNS_SCHEMA).select(RUNS_OF_2_0)
    write_deltalake(uri, older)
    found = latest_run(uri, "run")
    assert found is not None
    assert "Remaining 8" in " ".join(render_run(found, examples_of([], 1)).split()).replace(
        "</dt><dd>", " "
    )
    assert [run["run_id"] for run in newest_runs(uri, 5)] == ["run"]
    profile = profile_of(table(row("a"), row("b")), SPACE)
    assert judge(planned(), profile, uri, pipeline.Policy().drift)["drifted"] is None
    record_run(uri, run_record(run_id="newer", drifted=False))
    assert [run["drifted"] for run in newest_runs(uri, 5)] == [False, None]
    assert DeltaTable(uri).schema().to_arrow().names == RUNS_SCHEMA.names


def test_an_older_results_table_is_read_and_extended(tmp_path: Path) -> None:
    settings = Settings(results_uri=str(tmp_path))
    older_model = "e" * 64
    older = table(*(row(key, digest=older_model) for key in "ab"))
    write_deltalake(
        settings.results_table,
        older.drop_columns(ROW_COLUMNS_SINCE_2_0),
        partition_by=["data_date"],
    )
    results = DeltaTable(settings.results_table)
    offered = choices(results)
    assert offered is not None
    assert offered.buckets == ("bucket",)
    assert overview(results, Filter(), 2.1).scored == 2
    with ordered_rows(results, current=True) as (count, _):
        assert count == 2
    assert [item.current for item in trace("a", settings)] == [True]
    assert ResultsTable(settings.results_table).commit(table(row("a"), row("b")), ["new"]) == 2
    assert compare(DeltaTable(settings.results_table)).changes.pairs == 2
    chosen = first_rows(DeltaTable(settings.results_table), Filter(), "newest", 5)
    assert chosen.num_rows == 4
