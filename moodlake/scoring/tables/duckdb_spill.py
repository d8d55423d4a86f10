"""DuckDB as a tool: joins of more than memory holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from moodlake.scoring.sources.objects import SourceError

_MEMORY = "400MB"
_CHUNK_ROWS = 10_000


@contextmanager
def database(folder: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own, which takes so much memory, spills the rest, and is gone in the end.

    Args:
        folder: where its files lie meanwhile; the system's own place if None.

    Raises:
        SourceError: the disk is full, or the folder cannot be written.
    """
    place = folder or Path(tempfile.gettempdir())
    with ExitStack() as stack:
        try:
            own = stack.enter_context(tempfile.TemporaryDirectory(dir=place))
            connection = stack.enter_context(_connect(Path(own)))
        except (duckdb.Error, OSError) as error:
            raise _explained(error, place) from error
        try:
            yield connection
        except duckdb.Error as error:
            raise _explained(error, place) from error


def _explained(error: Exception, place: Path) -> SourceError:
    return SourceError(
        f"joining on disk in {place} failed ({error}); free space there, or let TMPDIR name "
        "another folder"
    )


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        folder / "work.duckdb",
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            # Each takes memory of its own, and a second saves little time.
            "threads": 1,
            # Nothing is fetched from anywhere.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET enable_progress_bar = false")
    return connection


def fill(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """A table of what the batches hold; what they raise is raised as it is."""
    connection.register("chunk", schema.empty_table())
    connection.execute(f"CREATE TABLE {name} AS FROM chunk")
    for chunk in in_chunks(batches):
        connection.register("chunk", chunk)
        connection.execute(f"INSERT INTO {name} FROM chunk")
    connection.unregister("chunk")


def in_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in larger pieces: a stream that fails in DuckDB's hands fails as DuckDB's."""
    waiting, rows = [], 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)
