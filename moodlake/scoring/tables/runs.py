"""The table of runs: one row for each, beside the results."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake

from moodlake.scoring.tables.delta import open_table, scan, until_won
from moodlake.scoring.tables.schema import UTC_TIME

RUNS_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("bucket", pa.string()),
        ("prefix", pa.string()),
        ("listed", pa.int64()),
        ("waiting", pa.int64()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("provenance", pa.string()),
        ("started_by", pa.string()),
        ("dag_id", pa.string()),
        ("git_commit", pa.string()),
        ("dvc_lock", pa.string()),
        ("params", pa.string()),
        ("objects", pa.int64()),
        ("bytes", pa.int64()),
        ("shards", pa.int64()),
        ("scored", pa.int64()),
        ("rejected", pa.int64()),
        ("reasons", pa.string()),
        ("problem", pa.string()),
        ("started_at", UTC_TIME),
        ("ended_at", UTC_TIME),
        ("images_per_second", pa.float64()),
        ("seconds", pa.string()),
        ("cost_per_million", pa.float64()),
        ("profile", pa.string()),
        ("drift", pa.string()),
        ("drifted", pa.bool_()),
    ]
)


def record_run(uri: str, record: dict[str, Any]) -> None:
    """Add one run to the Delta table of runs; a run that is there already stays as it is."""
    rows = pa.Table.from_pylist([record], schema=RUNS_SCHEMA)

    def write() -> None:
        table = DeltaTable.create(uri, RUNS_SCHEMA, mode="ignore")
        if find_run(uri, record["run_id"], record["started_at"]) is None:
            once = CommitProperties(max_commit_retries=0)
            write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=once)

    until_won(write)


def publishing_run(uri: str, run_id: str, scored_at: datetime) -> dict[str, Any] | None:
    """The run that published what was scored then: the first of this name that ended later.

    If the clock was set back meanwhile and none did, it is the last.
    """
    runs = _named(uri, run_id)
    later = (run for run in runs if run["ended_at"] >= scored_at)
    return next(later, runs[-1] if runs else None)


def latest_run(uri: str, run_id: str) -> dict[str, Any] | None:
    """The last run of this name, if there is one."""
    return next(reversed(_named(uri, run_id)), None)


def _named(uri: str, run_id: str) -> list[dict[str, Any]]:
    table = open_table(uri)
    if table is None:
        return []
    named = scan(table, where=pc.field("run_id") == run_id).to_table()
    return named.sort_by("ended_at").to_pylist()


def last_runs(uri: str, bucket: str, model_digest: str, since: datetime) -> list[dict[str, Any]]:
    """`params` and `profile` of the runs of a bucket and model that ended later than `since`."""
    table = open_table(uri)
    if table is None or "profile" not in table.to_pyarrow_dataset().schema.names:
        return []
    wanted = (
        (pc.field("bucket") == bucket)
        & (pc.field("model_digest") == model_digest)
        & (pc.field("ended_at") > since)
    )
    uses = ["bucket", "model_digest", "ended_at"]
    return scan(table, ["params", "profile"], wanted, uses).to_table().to_pylist()


def find_run(uri: str, run_id: str, started_at: datetime) -> dict[str, Any] | None:
    """The record of a run, if it was written; a run that was cleared in Airflow starts anew."""
    table = open_table(uri)
    if table is None:
        return None
    same = (pc.field("run_id") == run_id) & (pc.field("started_at") == started_at)
    if not scan(table, ["run_id"], same, ["started_at"]).to_table().num_rows:  # not all columns
        return None
    return next(iter(scan(table, where=same).to_table().to_pylist()), None)


def newest_runs(uri: str, count: int) -> list[dict[str, Any]]:
    """The last runs, the newest first, without what takes long to read; `find_run` has it."""
    table = open_table(uri)
    if table is None:
        return []
    there = table.to_pyarrow_dataset().schema.names
    long = ("provenance", "params", "profile", "drift", "seconds")
    columns = [name for name in RUNS_SCHEMA.names if name in there and name not in long]
    rows = scan(table, columns).to_table().sort_by([("ended_at", "descending")])
    return rows.slice(0, count).to_pylist()
