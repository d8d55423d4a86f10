"""Objects of a listing that a model has not scored yet.

DuckDB joins the listing with the existing rows on disk, so memory grows with neither.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from moodlake.scoring.sources.objects import LISTING_SCHEMA, SourceObject, objects_of
from moodlake.scoring.tables.duckdb_spill import database, fill

EXISTING_SCHEMA = pa.schema([("key", pa.string()), ("etag", pa.string()), ("retry", pa.bool_())])
"""Objects that have a row. `retry`: the row has a retryable reason, so score the object again."""
_BATCH_ROWS = 2048


class Backlog:
    """Objects of a bucket that are still to be scored, oldest first; a context manager.

    Retried objects are those that were quarantined, or have a row with a retryable reason, such
    as an archived object. They are kept apart, so that they never delay new objects.

    Args:
        bucket: bucket of the listing.
        pages: the listing in LISTING_SCHEMA, in any order; read once.
        existing: objects that have a row, in EXISTING_SCHEMA.
        pattern: take only keys that match it, in the syntax of Python's fnmatch. Empty for all.
        quarantined: key and etag of the quarantined objects.
        folder: folder of the database file while the backlog is open; by default the system's
            folder for temporary files.

    Attributes:
        listed: number of listed objects that match the pattern.
        pending_objects: number of them that are still to be scored.
    """

    def __init__(
        self,
        bucket: str,
        pages: Iterable[pa.RecordBatch],
        existing: Iterable[pa.RecordBatch] = (),
        pattern: str = "",
        quarantined: Iterable[pa.RecordBatch] = (),
        folder: Path | None = None,
    ) -> None:
        self._bucket = bucket
        with ExitStack() as stack:
            self._database = stack.enter_context(database(folder))
            fill(self._database, "quarantined", EXISTING_SCHEMA.remove(2), quarantined)
            self._fill(_matching(pages, pattern) if pattern else pages, existing)
            self._closing = stack.pop_all()

    def _fill(self, pages: Iterable[pa.RecordBatch], existing: Iterable[pa.RecordBatch]) -> None:
        connection = self._database
        fill(connection, "listing", LISTING_SCHEMA, pages)
        fill(connection, "existing", EXISTING_SCHEMA, existing)
        self.listed = self._number("SELECT count(*) FROM listing")
        connection.execute(
            "CREATE TABLE pending AS SELECT DISTINCT ON (key, etag) listing.*, "
            "existing.key IS NOT NULL AS has_row, "
            "(key, etag) IN (SELECT (key, etag) FROM quarantined) AS quarantined "
            "FROM listing LEFT JOIN existing USING (key, etag) "
            "WHERE existing.key IS NULL OR existing.retry"
        )
        connection.execute("DROP TABLE listing")
        connection.execute("DROP TABLE existing")
        self.pending_objects = self._number("SELECT count(*) FROM pending")

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchall()[0][0])

    def oldest(self, limit: int, retried: bool = False) -> Iterator[SourceObject]:
        """Yield objects by the time of their last change, then by key.

        Args:
            limit: maximum number of objects.
            retried: yield retried objects instead of new ones.
        """
        names = ", ".join(LISTING_SCHEMA.names)
        query = (
            f"SELECT {names} FROM pending WHERE (has_row OR quarantined) = {retried} "
            f"ORDER BY has_row, last_modified, key, etag LIMIT {int(limit)}"
        )
        for batch in self._database.sql(query).to_arrow_reader(_BATCH_ROWS):
            yield from objects_of(batch, self._bucket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.__exit__(kind, error, trace)


def _matching(pages: Iterable[pa.RecordBatch], pattern: str) -> Iterator[pa.RecordBatch]:
    matches = re.compile(fnmatch.translate(pattern)).match
    for page in pages:
        yield page.filter(pa.array([matches(key) is not None for key in page["key"].to_pylist()]))
