"""Access to Delta tables with several writers: the loser of a race reads again and retries."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

_ATTEMPTS = 12
_LONGEST_WAIT = 5.0

Result = TypeVar("Result")


def open_table(uri: str) -> DeltaTable | None:
    """Open the current version of a table; None before its first commit."""
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def scan(
    table: DeltaTable,
    columns: Sequence[str] | Mapping[str, pc.Expression] | None = None,
    where: pc.Expression | None = None,
    uses: Sequence[str] = (),
) -> pa.RecordBatchReader:
    """Read rows of a table as a stream, which can be consumed once; little read-ahead saves memory.

    Delta's statistics skip files; rows are filtered after reading. In files that delta-rs merges,
    strings have a type that Arrow reads but cannot compare (apache/arrow issue 49368).

    Args:
        table: table to read.
        columns: names, or names with the expressions that compute them; None for all.
        where: condition on rows.
        uses: further columns that `where` or the expressions need.
    """
    dataset = table.to_pyarrow_dataset()
    names = dataset.schema.names
    needed = set(names if columns is None else [*columns, *uses])
    schema = pa.schema([dataset.schema.field(name) for name in names if name in needed])
    files = ds.FileSystemDataset(
        dataset.get_fragments(filter=where), dataset.schema, dataset.format, dataset.filesystem
    )
    batches = files.to_batches(columns=schema.names, batch_readahead=1, fragment_readahead=2)
    wanted = dict(columns) if isinstance(columns, Mapping) else columns and list(columns)

    def chosen(part: pa.RecordBatch) -> pa.Table:
        return ds.dataset(part).to_table(columns=wanted, filter=where, use_threads=False)

    # A second scanner around the first would block a thread of Arrow, perhaps the only one, while
    # it waits for it. Scanners of batches in memory wait for nothing.
    empty = pa.RecordBatch.from_pylist([], schema)
    rows = (part for batch in batches for part in chosen(batch).to_batches())
    return pa.RecordBatchReader.from_batches(chosen(empty).schema, rows)


def starts_with(column: str, prefix: str) -> pc.Expression:
    """Return the condition that a text starts with `prefix`, with bounds that skip files."""
    text = pc.field(column)
    found = (text >= prefix) & pc.starts_with(text, prefix)
    last = ord(prefix[-1])
    # The smallest text above all matches. Beyond 0xD7FF the next code point may not exist.
    return found & (text < prefix[:-1] + chr(last + 1)) if last < 0xD7FF else found


def retry_conflicts(write: Callable[[], Result]) -> Result:
    """Call `write`, which reads a table and commits to it, until no other writer interferes.

    Raises:
        CommitFailedError: other writers committed first in each of _ATTEMPTS attempts.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return write()
        except CommitFailedError:
            time.sleep(min(_LONGEST_WAIT, 0.05 * 2**attempt) * random.uniform(0.5, 1))
    return write()
