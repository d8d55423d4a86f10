"""Commits to the results table: each identity once, whatever other writers commit meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError

from moodlake.scoring.sources.objects import SetupError
from moodlake.scoring.tables.delta import retry_conflicts, scan
from moodlake.scoring.tables.duckdb_spill import database, fill, in_chunks
from moodlake.scoring.tables.schema import IDENTITY, RETRYABLE

_PARTITION = "data_date"
_DATES_AT_ONCE = 100
"""Dates per commit: delta-rs keeps a file open for each, with 0.3 MB of buffers."""
_SAME = ", ".join(IDENTITY)


@dataclass(frozen=True)
class CommitSnapshot:
    """Number of commits of a bucket and model at some time."""

    bucket: str
    model_digest: str
    commits: int


def commits_of(table: DeltaTable, bucket: str, model_digest: str) -> int:
    """Return the number of commits of a bucket and model so far."""
    return table.transaction_version(_counter(bucket, model_digest)) or 0


def commit_parts(
    uri: str,
    parts: Callable[[], Iterable[pa.Table]],
    schema: pa.Schema,
    shard_ids: Sequence[str],
    snapshot: CommitSnapshot | None = None,
) -> int:
    """Add the rows that the table at `uri` lacks; see `ResultsTable.commit_parts`."""
    written = 0

    def write() -> None:
        nonlocal written
        table = DeltaTable.create(uri, schema, partition_by=[_PARTITION], mode="ignore")
        _check_types(table, schema)
        if snapshot and _is_current(snapshot, table):
            owners = [(snapshot.bucket, snapshot.model_digest)]
            for added in _append(table, parts(), schema, owners, shard_ids):
                written += added
            return
        with _present(table, parts()) as connection:
            owners = connection.execute(
                "SELECT DISTINCT bucket, model_digest FROM sought"
            ).fetchall()
            replacing = (_replacing(connection, part) for part in parts())
            # Each merge reads the table, so there should be few and large ones.
            for rows in in_chunks(batch for part in replacing for batch in part.to_batches()):
                written += _replace(table, rows, owners)
            missing = (_missing(connection, part) for part in parts())
            for added in _append(table, missing, schema, owners, shard_ids):
                written += added

    retry_conflicts(write)
    return written


def _is_current(snapshot: CommitSnapshot, table: DeltaTable) -> bool:
    return commits_of(table, snapshot.bucket, snapshot.model_digest) == snapshot.commits


@contextmanager
def _present(table: DeltaTable, parts: Iterable[pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the identities of the parts, `sought`, and of the table, `present`.

    The table is streamed once; files and rows that cannot match are skipped.
    """
    with database() as connection:
        sought = (batch for part in parts for batch in part.select(IDENTITY).to_batches())
        fill(connection, "sought", pa.schema([(name, pa.string()) for name in IDENTITY]), sought)
        columns = {name: pc.field(name) for name in IDENTITY}
        columns["retryable"] = pc.field("reason").isin(RETRYABLE)
        stored = scan(table, columns, _bounds(connection), uses=["reason"])
        connection.execute(
            "CREATE TABLE present AS SELECT *, true AS retryable FROM sought LIMIT 0"
        )
        for chunk in in_chunks(stored):
            connection.register("chunk", chunk)
            connection.execute(
                f"INSERT INTO present SELECT {_SAME}, retryable FROM chunk SEMI JOIN sought "
                f"USING ({_SAME})"
            )
        yield connection


def _bounds(connection: duckdb.DuckDBPyConnection) -> pc.Expression:
    """Return a condition that holds for every row with one of the sought identities."""
    ((buckets, digests, first, last),) = connection.execute(
        "SELECT list(DISTINCT bucket), list(DISTINCT model_digest), min(key), max(key) FROM sought"
    ).fetchall()
    return (
        pc.field("bucket").isin(pa.array(buckets or (), pa.string()))
        & pc.field("model_digest").isin(pa.array(digests or (), pa.string()))
        & (pc.field("key") >= (first or ""))
        & (pc.field("key") <= (last or ""))
    )


def _missing(connection: duckdb.DuckDBPyConnection, part: pa.Table) -> pa.Table:
    """Return the rows whose identity the table lacks."""
    return _joined(connection, part, f"ANTI JOIN present USING ({_SAME})")


def _replacing(connection: duckdb.DuckDBPyConnection, part: pa.Table) -> pa.Table:
    """Return the rows that replace one with a retryable reason."""
    part = part.filter(pc.invert(pc.is_in(part["reason"], pa.array(RETRYABLE))))
    return _joined(connection, part, f"SEMI JOIN (FROM present WHERE retryable) USING ({_SAME})")


def _joined(connection: duckdb.DuckDBPyConnection, part: pa.Table, join: str) -> pa.Table:
    numbers = pa.array(range(part.num_rows), pa.int64())
    connection.register("part", part.select(IDENTITY).append_column("row", numbers))
    rows = connection.execute(f"SELECT row FROM part {join} ORDER BY row").fetchall()
    return part.take(pa.array([row for (row,) in rows], pa.int64()))


def _replace(table: DeltaTable, rows: pa.Table, owners: Sequence[tuple[str, str]]) -> int:
    """Replace rows that have a retryable reason; return the number of rows."""
    if rows.num_rows:
        same = " AND ".join(f"t.{name} = s.{name}" for name in IDENTITY)
        merger = table.merge(
            rows,
            predicate=f"{same} AND t.reason IN ({', '.join(map(repr, RETRYABLE))})",
            source_alias="s",
            target_alias="t",
            merge_schema=True,
            commit_properties=CommitProperties(
                max_commit_retries=0, app_transactions=_counted(table, owners)
            ),
        )
        merger.when_matched_update_all().execute()
    return rows.num_rows


def _append(
    table: DeltaTable,
    parts: Iterable[pa.Table],
    schema: pa.Schema,
    owners: Sequence[tuple[str, str]],
    shard_ids: Sequence[str],
) -> Iterator[int]:
    """Append rows in one commit, or several for many dates; yield the number of rows of each."""
    for _, group in itertools.groupby(_dated(parts), key=lambda pair: pair[0]):
        stream = _Stream(part for _, part in group)
        transactions = _counted(table, owners)
        transactions += [Transaction(shard_id, 1) for shard_id in shard_ids]
        with stream.errors():
            write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(schema, stream.batches()),
                mode="append",
                schema_mode="merge",
                writer_properties=_writer_properties(schema),
                commit_properties=CommitProperties(app_transactions=transactions),
            )
        yield stream.rows


class _Stream:
    """A stream of rows that delta-rs reads in another thread.

    Attributes:
        rows: number of rows read so far.
    """

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        self.rows = 0
        self._parts = parts
        self._error: Exception | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for part in self._parts:
                self.rows += part.num_rows
                yield from part.to_batches()
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the error of the parts instead of the DeltaError that delta-rs makes of it."""
        try:
            yield
        except DeltaError as error:
            if self._error:
                raise self._error from error
            raise


def _dated(parts: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Yield rows of one date at a time, each with the number of the commit they belong to."""
    dates: set[date] = set()
    window = 0
    for part in parts:
        start, part = 0, part.sort_by(_PARTITION)
        for day, rows in itertools.groupby(part[_PARTITION].to_pylist()):
            count = sum(1 for _ in rows)
            if len(dates | {day}) > _DATES_AT_ONCE:
                dates, window = set(), window + 1
            dates.add(day)
            yield window, part.slice(start, count)
            start += count


def _writer_properties(schema: pa.Schema) -> WriterProperties:
    """Return Parquet settings: dictionaries only for text columns with few distinct values.

    delta-rs' default, a dictionary for each column, took six times the memory for an open file,
    and a tenth more on disk. `maintain` writes larger row groups.
    """
    repetitive = [
        field.name
        for field in schema
        if pa.types.is_string(field.type) and field.name not in ("key", "etag")
    ]
    return WriterProperties(
        compression="SNAPPY",  # WriterProperties otherwise disable it
        max_row_group_size=8192,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in repetitive},
    )


def _counter(bucket: str, model_digest: str) -> str:
    return f"{model_digest} {bucket}"


def _counted(table: DeltaTable, owners: Sequence[tuple[str, str]]) -> list[Transaction]:
    """Count one more commit of each bucket and model: of two concurrent writers, one fails."""
    return [Transaction(_counter(*owner), commits_of(table, *owner) + 1) for owner in owners]


def _check_types(table: DeltaTable, schema: pa.Schema) -> None:
    """Check that no column changes its type: delta-rs adds missing columns, but casts others."""
    existing = {field.name: field.type for field in table.schema().fields}
    for column in Schema.from_arrow(schema).fields:
        if existing.get(column.name, column.type) != column.type:
            raise SetupError(
                f"column {column.name!r} of {table.table_uri} has type {existing[column.name]}, "
                f"but this version of moodlake writes {column.type}; set MOODLAKE_RESULTS_URI to "
                "another location, or copy the table with the column's type changed"
            )
