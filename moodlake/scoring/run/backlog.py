"""What of a listing a model has still to score.

The listing and what is done already meet on disk, in DuckDB: memory does not grow with either.
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

KNOWN_SCHEMA = pa.schema([("key", pa.string()), ("etag", pa.string()), ("again", pa.bool_())])
"""Objects that have a row; `again` says that they are to be tried again."""
_BATCH_ROWS = 2048


class Backlog:
    """The objects of a bucket that are not done, oldest first; a context manager.

    What the gate refused before, and what was tried and is to be tried again (an archived object,
    for example), stands apart, so that it never keeps the new ones waiting.

    Args:
        bucket: their bucket.
        pages: of LISTING_SCHEMA, in any order and of any size; read once.
        known: in KNOWN_SCHEMA, what has a row already.
        pattern: only keys like this, as Python's fnmatch reads it. Empty for all.
        refused: key and etag of what the gate refused.
        folder: where its file lies while it is open; the system's own place if None.

    Attributes:
        listed: objects of the listing that fit the pattern.
        objects: those that are not done.
    """

    def __init__(
        self,
        bucket: str,
        pages: Iterable[pa.RecordBatch],
        known: Iterable[pa.RecordBatch] = (),
        pattern: str = "",
        refused: Iterable[pa.RecordBatch] = (),
        folder: Path | None = None,
    ) -> None:
        self._bucket = bucket
        with ExitStack() as stack:
            self._database = stack.enter_context(database(folder))
            fill(self._database, "refused", KNOWN_SCHEMA.remove(2), refused)
            self._fill(_like(pages, pattern) if pattern else pages, known)
            self._closing = stack.pop_all()

    def _fill(self, pages: Iterable[pa.RecordBatch], known: Iterable[pa.RecordBatch]) -> None:
        connection = self._database
        fill(connection, "listing", LISTING_SCHEMA, pages)
        fill(connection, "known", KNOWN_SCHEMA, known)
        self.listed = self._number("SELECT count(*) FROM listing")
        connection.execute(
            "CREATE TABLE todo AS SELECT DISTINCT ON (key, etag) listing.*, "
            "known.key IS NOT NULL AS tried, "
            "(key, etag) IN (SELECT (key, etag) FROM refused) AS refused "
            "FROM listing LEFT JOIN known USING (key, etag) "
            "WHERE known.key IS NULL OR known.again"
        )
        connection.execute("DROP TABLE listing")
        connection.execute("DROP TABLE known")
        self.objects = self._number("SELECT count(*) FROM todo")

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchall()[0][0])

    def oldest(self, most: int, again: bool = False) -> Iterator[SourceObject]:
        """At most so many objects, by the time of their last change and then by key.

        Args:
            most: how many.
            again: those that were tried or refused before, instead of the new ones.
        """
        names = ", ".join(LISTING_SCHEMA.names)
        query = (
            f"SELECT {names} FROM todo WHERE (tried OR refused) = {again} "
            f"ORDER BY tried, last_modified, key, etag LIMIT {int(most)}"
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


def _like(pages: Iterable[pa.RecordBatch], pattern: str) -> Iterator[pa.RecordBatch]:
    matches = re.compile(fnmatch.translate(pattern)).match
    for page in pages:
        yield page.filter(pa.array([matches(key) is not None for key in page["key"].to_pylist()]))
