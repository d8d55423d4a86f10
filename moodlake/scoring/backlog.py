"""What of a listing a model has still to score.

The listing and what is done already meet on disk, in DuckDB: memory does not grow with either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from moodlake.scoring.duck import connect, in_chunks
from moodlake.scoring.objects import LISTING_SCHEMA, SourceObject, objects_of

DONE_SCHEMA = pa.schema([("key", pa.string()), ("etag", pa.string())])
_BATCH_ROWS = 2048


class Backlog:
    """The objects of a bucket that are not done, oldest first; a context manager.

    Args:
        bucket: their bucket.
        pages: of LISTING_SCHEMA, in any order and of any size; read once.
        done: in DONE_SCHEMA, what is done already.
        pattern: only keys like this, with `*`, `?` and `[...]` as shells read them; `*` also
            goes over slashes. Empty for all.
        folder: where its file lies while it is open; the system's own place if None.

    Attributes:
        listed: objects of the listing that fit the pattern.
        objects, bytes: those that are not done.
    """

    def __init__(
        self,
        bucket: str,
        pages: Iterable[pa.RecordBatch],
        done: Iterable[pa.RecordBatch] = (),
        pattern: str = "",
        folder: Path | None = None,
    ) -> None:
        self._bucket = bucket
        with ExitStack() as stack:
            place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            self._database = stack.enter_context(connect(Path(place)))
            self._fill(pages, done, pattern)
            self._closing = stack.pop_all()

    def _fill(
        self, pages: Iterable[pa.RecordBatch], done: Iterable[pa.RecordBatch], pattern: str
    ) -> None:
        database = self._database
        like = (pattern or "*",)
        _insert(database, "listing", LISTING_SCHEMA, pages, "WHERE key GLOB ?", like)
        self.listed = self._number("SELECT count(*) FROM listing")
        _insert(database, "done", DONE_SCHEMA, done)
        database.execute("CREATE TABLE todo AS FROM listing ANTI JOIN done USING (key, etag)")
        database.execute("DROP TABLE listing")
        database.execute("DROP TABLE done")
        self.objects = self._number("SELECT count(*) FROM todo")
        self.bytes = self._number("SELECT coalesce(sum(size), 0) FROM todo")

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchall()[0][0])

    def oldest(self, most: int) -> Iterator[SourceObject]:
        """At most so many objects, by the time of their last change and then by key."""
        query = f"FROM todo ORDER BY last_modified, key, etag LIMIT {int(most)}"
        for batch in self._database.sql(query).to_arrow_reader(_BATCH_ROWS):
            yield from objects_of(batch, self._bucket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def _insert(
    database: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    where: str = "",
    parameters: Sequence[str] = (),
) -> None:
    """A table of what the batches hold; what they raise is raised as it is."""
    database.register("chunk", schema.empty_table())
    database.execute(f"CREATE TABLE {name} AS FROM chunk")
    for chunk in in_chunks(batches):
        database.register("chunk", chunk)
        database.execute(f"INSERT INTO {name} FROM chunk {where}", parameters)
    database.unregister("chunk")
