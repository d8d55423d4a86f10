"""The results table: one row for each object version and model, however often it is written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from moodlake.scoring.delta import open_table, scan, until_won
from moodlake.scoring.duck import database, in_chunks
from moodlake.scoring.objects import SetupError
from moodlake.scoring.rows import IDENTITY, PASSING

_PARTITION = "data_date"
_ROWS_OF_A_GROUP = 8192  # of Parquet, which a writer holds in memory; `maintain` makes larger ones


@dataclass(frozen=True)
class Seen:
    """How many commits there were, at some time, of a bucket and model."""

    bucket: str
    model_digest: str
    commits: int


@dataclass(frozen=True)
class Known:
    """What a model has rows of, in a bucket.

    Attributes:
        objects: in KNOWN_SCHEMA, to be read once. One that had vanished is to be tried again: if
            it is listed, it is back. So is one that could not be read.
        seen: by then.
    """

    objects: Iterable[pa.RecordBatch]
    seen: Seen


class ResultsTable:
    """A Delta table of results at `uri`, a folder or s3:// prefix; created at the first commit."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self) -> DeltaTable | None:
        """The table as it is now, or None before the first commit."""
        return open_table(self.uri)

    def known(self, bucket: str, model_digest: str, keys: pa.Array | None = None) -> Known:
        """The objects of `bucket` that this model has rows of; of these keys, if any are given."""
        table = self.open()
        if table is None:
            return Known((), Seen(bucket, model_digest, 0))
        wanted = (pc.field("bucket") == bucket) & (pc.field("model_digest") == model_digest)
        if keys is not None:
            wanted &= pc.field("key").isin(keys)
        again = pc.field("reason").isin(PASSING)
        columns = {"key": pc.field("key"), "etag": pc.field("etag"), "again": again}
        rows = scan(table, columns, wanted, uses=["bucket", "model_digest", "reason"])
        commits = _commits(table, bucket, model_digest)
        return Known(rows.to_batches(), Seen(bucket, model_digest, commits))

    def append_new(
        self, parts: Callable[[], Iterable[pa.Table]], shard_ids: Sequence[str], seen: Seen
    ) -> bool:
        """Add rows in one commit, if no other came since they were planned, or nothing.

        Args:
            parts: gives the rows anew at each call, a part in memory at a time: in one schema, each
                identity once, none of them known when planned.
            shard_ids: what they were scored as.
            seen: of their one bucket and model, when they were planned.

        Returns:
            Whether they are in; if not, `commit` looks which of them are missing.

        Raises:
            CommitFailedError: other writers won the race too many times.
            SetupError: the table has a column of that name and another type.
        """

        def write() -> bool:
            rest = iter(parts())
            if (first := next(rest, None)) is None:
                return False
            table = self._for(first.schema)
            if _commits(table, seen.bucket, seen.model_digest) != seen.commits:
                return False
            every = itertools.chain([first], rest)
            batches = (batch for part in every for batch in part.to_batches())
            counted = Transaction(_counter(seen.bucket, seen.model_digest), seen.commits + 1)
            reader = pa.RecordBatchReader.from_batches(first.schema, batches)
            _write(table, reader, [counted], shard_ids)
            return True

        return until_won(write)

    def commit(self, rows: pa.Table, shard_ids: Sequence[str]) -> int:
        """Add `rows`, each identity once; returns how many were written.

        A row whose identity is there already is left as it is; or replaced if its reason was a
        passing one, and is so no longer. So committing again, or from two runs at once, changes
        nothing. Each commit counts up a Delta transaction of its bucket and model; of two that race
        one is refused, reads the table anew and finds the work done. The shard ids go along as
        transactions.

        Args:
            rows: in the schema of results.
            shard_ids: what they were scored as.

        Raises:
            CommitFailedError: other writers won the race too many times.
            SetupError: the table has a column of that name and another type.
        """
        if not rows.num_rows:
            return 0
        rows, replaced = _once(rows), 0

        def write() -> int:
            nonlocal replaced
            table = self._for(rows.schema)
            replaced += self._replace(table, rows)
            return self._append(table, rows, shard_ids)

        appended = until_won(write)
        return replaced + appended

    def _replace(self, table: DeltaTable, rows: pa.Table) -> int:
        """Put rows in the place of those that had a passing reason."""
        rows = rows.filter(pc.invert(pc.is_in(rows["reason"], pa.array(PASSING))))
        passing = pc.field("reason").isin(PASSING)
        again = _those(rows, _present(table, rows, passing))
        if again.num_rows:
            same = " AND ".join(f"t.{name} = s.{name}" for name in IDENTITY)
            merger = table.merge(
                again,
                predicate=f"{same} AND t.reason IN ({', '.join(map(repr, PASSING))})",
                source_alias="s",
                target_alias="t",
                merge_schema=True,
                commit_properties=CommitProperties(
                    max_commit_retries=0, app_transactions=_counted(table, again)
                ),
            )
            merger.when_matched_update_all().execute()
        return again.num_rows

    def _append(self, table: DeltaTable, rows: pa.Table, shard_ids: Sequence[str]) -> int:
        counted = _counted(table, rows)
        rows = _those(rows, _present(table, rows), there=False)
        if rows.num_rows:
            _write(table, rows, counted, shard_ids)
        return rows.num_rows

    def _for(self, schema: pa.Schema) -> DeltaTable:
        """The table, to which rows of this schema may be added."""
        table = DeltaTable.create(self.uri, schema, partition_by=[_PARTITION], mode="ignore")
        _check_types(table, schema)
        return table

    def find(self, key: str, bucket: str | None = None) -> pa.Table:
        """The rows of one object, of all its versions and models.

        Raises:
            TableNotFoundError: nothing was ever committed.
        """
        same = pc.field("key") == key
        if bucket is not None:
            same &= pc.field("bucket") == bucket
        return scan(DeltaTable(self.uri), where=same).to_table()

    def of_run(self, run_id: str, started_at: datetime) -> Iterator[pa.RecordBatch]:
        """The rows that a run wrote, a few at a time."""
        table = self.open()
        if table is None:
            return iter(())
        wanted = (pc.field("run_id") == run_id) & (pc.field("scored_at") >= started_at)
        return scan(table, where=wanted).to_batches()

    def read(self) -> pa.Table:
        """All rows, in memory, ordered by bucket and key.

        Raises:
            TableNotFoundError: nothing was ever committed.
        """
        rows = scan(DeltaTable(self.uri)).to_table()
        return rows.sort_by([("bucket", "ascending"), ("key", "ascending")])


def _counter(bucket: str, model_digest: str) -> str:
    return f"{model_digest} {bucket}"


def _commits(table: DeltaTable, bucket: str, model_digest: str) -> int:
    return table.transaction_version(_counter(bucket, model_digest)) or 0


def _counted(table: DeltaTable, rows: pa.Table) -> list[Transaction]:
    """The next commit of each bucket and model of `rows`."""
    owners = rows.group_by(["bucket", "model_digest"]).aggregate([]).to_pylist()
    return [Transaction(_counter(**owner), _commits(table, **owner) + 1) for owner in owners]


def _write(
    table: DeltaTable,
    rows: pa.Table | pa.RecordBatchReader,
    counted: Sequence[Transaction],
    shard_ids: Sequence[str],
) -> None:
    transactions = [*counted, *(Transaction(shard_id, 1) for shard_id in shard_ids)]
    write_deltalake(
        table,
        rows,
        mode="append",
        schema_mode="merge",
        writer_properties=WriterProperties(max_row_group_size=_ROWS_OF_A_GROUP),
        commit_properties=CommitProperties(app_transactions=transactions),
    )


def _check_types(table: DeltaTable, schema: pa.Schema) -> None:
    """Columns that the table lacks are added to it; but delta-rs would cast one of another type."""
    there = {field.name: field.type for field in table.schema().fields}
    for column in Schema.from_arrow(schema).fields:
        if there.get(column.name, column.type) != column.type:
            raise SetupError(
                f"column {column.name!r} of {table.table_uri} is {there[column.name]}, and this "
                f"version of moodlake writes {column.type}; let MOODLAKE_RESULTS_URI name another "
                "place, or copy the table with the column's type changed"
            )


def _once(rows: pa.Table) -> pa.Table:
    """The first row of each identity."""
    numbered = rows.select(IDENTITY).append_column("row", pa.array(range(rows.num_rows)))
    first = numbered.group_by(list(IDENTITY)).aggregate([("row", "min")])["row_min"]
    return rows if len(first) == rows.num_rows else rows.take(first.sort())


def _identities(rows: pa.Table) -> list[tuple[str, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in IDENTITY), strict=True))


def _those(rows: pa.Table, known: set[tuple[str, ...]], there: bool = True) -> pa.Table:
    """The rows whose identity is among the known ones, or is not."""
    if not known:
        return rows.slice(0, 0) if there else rows
    return rows.filter([(identity in known) == there for identity in _identities(rows)])


def _present(
    table: DeltaTable, rows: pa.Table, also: pc.Expression | None = None
) -> set[tuple[str, ...]]:
    """The identities of `rows` that the table holds; it is read in a stream, as far as it must."""
    limits = pc.min_max(rows["key"]).as_py()
    where = (
        pc.field("bucket").isin(rows["bucket"].unique())
        & pc.field("model_digest").isin(rows["model_digest"].unique())
        & (pc.field("key") >= limits["min"])
        & (pc.field("key") <= limits["max"])
    )
    stored = scan(table, IDENTITY, where if also is None else where & also, uses=["reason"])
    names = ", ".join(IDENTITY)
    found: set[tuple[str, ...]] = set()
    with database() as connection:
        connection.register("sought", rows.select(IDENTITY))
        for chunk in in_chunks(stored.to_batches()):
            connection.register("chunk", chunk)
            query = f"SELECT {names} FROM chunk SEMI JOIN sought USING ({names})"
            connection.execute(query)
            found.update(connection.fetchall())
    return found
