"""The results table: one row for each object version and model, however often it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from moodlake.scoring.tables.commits import CommitSnapshot, commit_parts, commits_of
from moodlake.scoring.tables.delta import open_table, scan
from moodlake.scoring.tables.schema import IDENTITY, RETRYABLE


@dataclass(frozen=True)
class ExistingRows:
    """What a model has rows of, in a bucket.

    Attributes:
        objects: in KNOWN_SCHEMA, to be read once. One that had vanished is to be tried again: if
            it is listed, it is back. So is one that could not be read.
        seen: by then.
    """

    objects: Iterable[pa.RecordBatch]
    seen: CommitSnapshot


class ResultsTable:
    """A Delta table of results at `uri`, a folder or s3:// prefix; created at the first commit."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self) -> DeltaTable | None:
        """The table as it is now, or None before the first commit."""
        return open_table(self.uri)

    def known(self, bucket: str, model_digest: str, keys: pa.Array | None = None) -> ExistingRows:
        """The objects of `bucket` that this model has rows of; of these keys, if any are given."""
        table = self.open()
        if table is None:
            return ExistingRows((), CommitSnapshot(bucket, model_digest, 0))
        wanted = (pc.field("bucket") == bucket) & (pc.field("model_digest") == model_digest)
        if keys is not None:
            wanted &= pc.field("key").isin(keys)
        again = pc.field("reason").isin(RETRYABLE)
        columns = {"key": pc.field("key"), "etag": pc.field("etag"), "again": again}
        rows = scan(table, columns, wanted, uses=["bucket", "model_digest", "reason"])
        commits = commits_of(table, bucket, model_digest)
        return ExistingRows(rows.to_batches(), CommitSnapshot(bucket, model_digest, commits))

    def commit_parts(
        self,
        parts: Callable[[], Iterable[pa.Table]],
        schema: pa.Schema,
        shard_ids: Sequence[str],
        seen: CommitSnapshot | None = None,
    ) -> int:
        """Add rows, each identity once; returns how many were written.

        A row whose identity is there already is left as it is; or replaced if its reason was a
        passing one, and is so no longer. So committing again, or from two runs at once, changes
        nothing. Each commit counts up a Delta transaction of its bucket and model; of two that race
        one is refused, reads the table anew and finds the work done. The shard ids go along as
        transactions.

        It is one commit, but for rows of very many dates; what replaces a row is merged apart. If
        no other commit came since the plan, the table is not read.

        Args:
            parts: gives the rows anew at each call, a part in memory at a time; no identity twice.
            schema: theirs, that of results.
            shard_ids: what they were scored as.
            seen: of their one bucket and model, when the table had none of them.

        Raises:
            CommitFailedError: other writers won the race too many times.
            SetupError: the table has a column of that name and another type.
        """
        return commit_parts(self.uri, parts, schema, shard_ids, seen)

    def commit(self, rows: pa.Table, shard_ids: Sequence[str]) -> int:
        """As `commit_parts`, of rows in memory, of which some may come twice."""
        rows = _once(rows)
        return self.commit_parts(lambda: [rows], rows.schema, shard_ids) if rows.num_rows else 0

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


def _once(rows: pa.Table) -> pa.Table:
    """The first row of each identity."""
    numbered = rows.select(IDENTITY).append_column("row", pa.array(range(rows.num_rows)))
    first = numbered.group_by(list(IDENTITY)).aggregate([("row", "min")])["row_min"]
    return rows if len(first) == rows.num_rows else rows.take(first.sort())
