"""The results table: one row per object version and model, however often it is written."""

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
    """Rows that a model has in a bucket.

    Attributes:
        objects: batches in EXISTING_SCHEMA, to be iterated once. `retry` marks objects that had
            vanished or could not be read.
        snapshot: bucket, model and their number of commits when the rows were read.
    """

    objects: Iterable[pa.RecordBatch]
    snapshot: CommitSnapshot


class ResultsTable:
    """A Delta table of results, created at the first commit.

    Args:
        uri: folder or s3:// prefix.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self) -> DeltaTable | None:
        """Open the current version of the table; None before the first commit."""
        return open_table(self.uri)

    def existing_rows(
        self, bucket: str, model_digest: str, keys: pa.Array | None = None
    ) -> ExistingRows:
        """Return the objects of `bucket` with rows by this model, optionally only of `keys`."""
        table = self.open()
        if table is None:
            return ExistingRows((), CommitSnapshot(bucket, model_digest, 0))
        wanted = (pc.field("bucket") == bucket) & (pc.field("model_digest") == model_digest)
        if keys is not None:
            wanted &= pc.field("key").isin(keys)
        retry = pc.field("reason").isin(RETRYABLE)
        columns = {"key": pc.field("key"), "etag": pc.field("etag"), "retry": retry}
        rows = scan(table, columns, wanted, uses=["bucket", "model_digest", "reason"])
        commits = commits_of(table, bucket, model_digest)
        return ExistingRows(rows, CommitSnapshot(bucket, model_digest, commits))

    def commit_parts(
        self,
        parts: Callable[[], Iterable[pa.Table]],
        schema: pa.Schema,
        shard_ids: Sequence[str],
        snapshot: CommitSnapshot | None = None,
    ) -> int:
        """Add rows, each identity once; return the number of rows written.

        A row with an existing identity is dropped, unless the existing row has a retryable reason
        and the new one does not: then it replaces the existing row. Committing twice, or from two
        runs at once, therefore changes nothing. Each commit increments a Delta transaction of its
        bucket and model; of two concurrent commits one fails, reads the table again and finds the
        rows present. The shard ids are stored as transactions, too.

        New rows are one commit, unless they have very many dates; replacements are merged
        separately. If there was no commit since `snapshot`, the table is not read.

        Args:
            parts: function that yields all rows again on each call, one part in memory at a time.
                No identity may occur twice.
            schema: schema of the rows.
            shard_ids: ids of their shards.
            snapshot: state of the table when it was known to have none of the rows, which must be
                of one bucket and model; None if unknown.

        Raises:
            CommitFailedError: other writers kept committing first.
            SetupError: a column of the table has another type.
        """
        return commit_parts(self.uri, parts, schema, shard_ids, snapshot)

    def commit(self, rows: pa.Table, shard_ids: Sequence[str]) -> int:
        """Add rows in memory, in which identities may repeat; see `commit_parts`."""
        rows = _first_of_each_identity(rows)
        return self.commit_parts(lambda: [rows], rows.schema, shard_ids) if rows.num_rows else 0

    def find(self, key: str, bucket: str | None = None) -> pa.Table:
        """Return the rows of one object, of all its versions and models.

        Raises:
            TableNotFoundError: there was no commit yet.
        """
        wanted = pc.field("key") == key
        if bucket is not None:
            wanted &= pc.field("bucket") == bucket
        return scan(DeltaTable(self.uri), where=wanted).read_all()

    def of_run(self, run_id: str, started_at: datetime) -> Iterator[pa.RecordBatch]:
        """Yield the rows that a run wrote, in batches."""
        table = self.open()
        if table is None:
            return iter(())
        wanted = (pc.field("run_id") == run_id) & (pc.field("scored_at") >= started_at)
        return scan(table, where=wanted)

    def read(self) -> pa.Table:
        """Read all rows into memory, ordered by bucket and key.

        Raises:
            TableNotFoundError: there was no commit yet.
        """
        rows = scan(DeltaTable(self.uri)).read_all()
        return rows.sort_by([("bucket", "ascending"), ("key", "ascending")])


def _first_of_each_identity(rows: pa.Table) -> pa.Table:
    """Drop rows that repeat an identity."""
    numbered = rows.select(IDENTITY).append_column("row", pa.array(range(rows.num_rows)))
    first = numbered.group_by(list(IDENTITY)).aggregate([("row", "min")])["row_min"]
    return rows if len(first) == rows.num_rows else rows.take(first.sort())
