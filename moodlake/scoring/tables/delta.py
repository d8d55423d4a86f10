"""Writing to Delta tables as several writers may: who loses a race reads anew and tries again."""

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
    """The table as it is now, or None before its first commit."""
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def scan(
    table: DeltaTable,
    columns: Sequence[str] | Mapping[str, pc.Expression] | None = None,
    where: pc.Expression | None = None,
    uses: Sequence[str] = (),
) -> ds.Scanner:
    """Rows of a table, to be taken once, in batches; little is read ahead, to save memory.

    Files are left out by Delta's statistics, rows when they have been read: in the files that
    delta-rs merges, strings have a type that Arrow reads but does not compare (apache/arrow
    issue 49368).

    Args:
        table: to read.
        columns: names, or names and what they are computed of; None for all.
        where: which rows.
        uses: columns that `where` or what is computed takes besides.
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
    return ds.Scanner.from_batches(batches, schema=schema, columns=wanted, filter=where)


def starts_with(column: str, prefix: str) -> pc.Expression:
    """Texts of a column that begin so; its bounds let files be left out by their statistics."""
    text = pc.field(column)
    found = (text >= prefix) & pc.starts_with(text, prefix)
    last = ord(prefix[-1])
    # The least text above all of them; beyond this, the next code point may be none.
    return found & (text < prefix[:-1] + chr(last + 1)) if last < 0xD7FF else found


def until_won(write: Callable[[], Result]) -> Result:
    """Call `write`, which reads the table and commits to it, until no other writer came between.

    Raises:
        CommitFailedError: others won too many times.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return write()
        except CommitFailedError:
            time.sleep(min(_LONGEST_WAIT, 0.05 * 2**attempt) * random.uniform(0.5, 1))
    return write()
