"""Temporary DuckDB databases, for joins larger than memory."""

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
    """Open a temporary database that uses up to _MEMORY and spills the rest to disk.

    Args:
        folder: folder for its files; by default the system's folder for temporary files.

    Raises:
        SourceError: the disk is full, or the folder cannot be written.
    """
    place = folder or Path(tempfile.gettempdir())
    with ExitStack() as stack:
        try:
            own = stack.enter_context(tempfile.TemporaryDirectory(dir=place))
            connection = stack.enter_context(_connect(Path(own)))
        except (duckdb.Error, OSError) as error:
            raise _translate(error, place) from error
        try:
            yield connection
        except duckdb.Error as error:
            raise _translate(error, place) from error


def _translate(error: Exception, place: Path) -> SourceError:
    return SourceError(
        f"joining on disk in {place} failed ({error}); free space there, or set TMPDIR to "
        "another folder"
    )


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        folder / "work.duckdb",
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            # Each thread takes memory, and a second one saves little time.
            "threads": 1,
            # Never download extensions.
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
    """Create a table from batches. Errors of the iterable pass through unchanged."""
    connection.register("chunk", schema.empty_table())
    connection.execute(f"CREATE TABLE {name} AS FROM chunk")
    for chunk in in_chunks(batches):
        connection.register("chunk", chunk)
        connection.execute(f"INSERT INTO {name} FROM chunk")
    connection.unregister("chunk")


def in_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Group batches into tables of about _CHUNK_ROWS rows.

    DuckDB gets complete tables: from a stream, it would replace the error of the source by its own.
    """
    buffered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        buffered.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield pa.Table.from_batches(buffered)
            buffered, rows = [], 0
    if buffered:
        yield pa.Table.from_batches(buffered)
