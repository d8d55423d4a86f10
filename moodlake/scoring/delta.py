"""Writing to Delta tables as several writers may: who loses a race reads anew and tries again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

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
    columns: Sequence[str] | Mapping[str, pc.Expression],
    where: pc.Expression | None = None,
) -> ds.Scanner:
    """Some columns of some rows, to be taken in batches; few are read ahead, to save memory."""
    wanted = dict(columns) if isinstance(columns, Mapping) else list(columns)
    return table.to_pyarrow_dataset().scanner(
        wanted, filter=where, batch_readahead=1, fragment_readahead=1
    )


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
