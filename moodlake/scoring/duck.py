"""DuckDB as a tool: joins of more than memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

_MEMORY = "400MB"
_CHUNK_ROWS = 50_000


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database of its own in `folder`, which takes so much memory and spills the rest."""
    return duckdb.connect(
        folder / "work.duckdb",
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            "threads": 2,
            # Nothing is fetched from anywhere.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


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
