"""The runs table: one row per run, beside the results table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake

from moodlake.scoring.tables.delta import open_table, retry_conflicts, scan
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
    """Add a run to the runs table, unless it is recorded already."""
    rows = pa.Table.from_pylist([record], schema=RUNS_SCHEMA)

    def write() -> None:
        table = DeltaTable.create(uri, RUNS_SCHEMA, mode="ignore")
        if find_run(uri, record["run_id"], record["started_at"]) is None:
            once = CommitProperties(max_commit_retries=0)
            write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=once)

    retry_conflicts(write)


def publishing_run(uri: str, run_id: str, scored_at: datetime) -> dict[str, Any] | None:
    """Return the run that published a row: the first run with this id that ended after scoring.

    If none did, because the clock was set back, return the last run.
    """
    runs = _named(uri, run_id)
    later = (run for run in runs if run["ended_at"] >= scored_at)
    return next(later, runs[-1] if runs else None)


def latest_run(uri: str, run_id: str) -> dict[str, Any] | None:
    """Return the last run with this id, if there is one."""
    return next(reversed(_named(uri, run_id)), None)


def _named(uri: str, run_id: str) -> list[dict[str, Any]]:
    table = open_table(uri)
    if table is None:
        return []
    named = scan(table, where=pc.field("run_id") == run_id).read_all()
    return named.sort_by("ended_at").to_pylist()


def last_runs(uri: str, bucket: str, model_digest: str, since: datetime) -> list[dict[str, Any]]:
    """Return `params` and `profile` of the runs of a bucket and model that ended after `since`."""
    table = open_table(uri)
    if table is None or "profile" not in table.to_pyarrow_dataset().schema.names:
        return []
    wanted = (
        (pc.field("bucket") == bucket)
        & (pc.field("model_digest") == model_digest)
        & (pc.field("ended_at") > since)
    )
    uses = ["bucket", "model_digest", "ended_at"]
    return scan(table, ["params", "profile"], wanted, uses).read_all().to_pylist()


def find_run(uri: str, run_id: str, started_at: datetime) -> dict[str, Any] | None:
    """Return the record of a run, if there is one.

    A run that is cleared in Airflow keeps its id and gets another start time.
    """
    table = open_table(uri)
    if table is None:
        return None
    same = (pc.field("run_id") == run_id) & (pc.field("started_at") == started_at)
    if not scan(table, ["run_id"], same, ["started_at"]).read_all().num_rows:  # cheap: few columns
        return None
    return next(iter(scan(table, where=same).read_all().to_pylist()), None)


def newest_runs(uri: str, count: int) -> list[dict[str, Any]]:
    """Return the last runs, newest first, without their long columns; see `find_run`."""
    table = open_table(uri)
    if table is None:
        return []
    existing = table.to_pyarrow_dataset().schema.names
    long = ("provenance", "params", "profile", "drift", "seconds")
    columns = [name for name in RUNS_SCHEMA.names if name in existing and name not in long]
    rows = scan(table, columns).read_all().sort_by([("ended_at", "descending")])
    return rows.slice(0, count).to_pylist()
