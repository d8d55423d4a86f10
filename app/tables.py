"""The tables, opened for a page; what they answer is kept while the table stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import streamlit as st
from botocore.exceptions import BotoCoreError, ClientError
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from app.installation import settings
from app.words import plain
from moodlake.errors import UserError
from moodlake.scoring.reports.diff import Diff, compare
from moodlake.scoring.tables.delta import open_table
from moodlake.scoring.tables.queries import Choices, Filter, Overview, choices, first_rows, overview

P = ParamSpec("P")
State = tuple[str, int]
"""A table and its version: what is kept of answers is of these."""
_KEPT = 64


def with_tables(page: Callable[P, None]) -> Callable[P, None]:
    """A page that tells in a sentence why there is nothing to see."""

    @wraps(page)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            page(*args, **kwargs)
        except (UserError, DeltaError, OSError, ClientError, BotoCoreError) as error:
            st.error(
                f"The tables at {plain(settings().results_uri)} cannot be read: {plain(str(error))}"
            )
            st.markdown(
                "`moodlake up` starts a store of tables here; for another one, start the page with "
                "`MOODLAKE_RESULTS_URI` naming its place."
            )

    return told


def results() -> DeltaTable | None:
    """The table of results, or None, said on the page, if nothing was scored yet."""
    table = open_table(settings().results_table)
    if table is None:
        st.info("Nothing was scored yet: `moodlake put photos/`, then `moodlake run`.")
    return table


@st.cache_data(max_entries=_KEPT, show_spinner="Looking into the table")
def choices_of(state: State, _table: DeltaTable) -> Choices | None:
    """What the table can be filtered by."""
    return choices(_table)


@st.cache_data(max_entries=_KEPT, show_spinner="Counting")
def overview_of(state: State, _table: DeltaTable, chosen: Filter, most: float) -> Overview:
    """What the rows of a filter say together."""
    return overview(_table, chosen, most)


@st.cache_data(max_entries=_KEPT, show_spinner="Looking for rows")
def rows_of(
    state: State, _table: DeltaTable, chosen: Filter, order: str, count: int
) -> list[dict[str, Any]]:
    """The first rows of a filter."""
    return first_rows(_table, chosen, order, count).to_pylist()


def most_entropy(emotions: int) -> float:
    """Of a distribution over so many emotions, in nats."""
    return math.log(emotions)


@st.cache_data(max_entries=_KEPT, show_spinner="Comparing")
def diff_of(
    state: State,
    _table: DeltaTable,
    old: str,
    new: str,
    bucket: str | None,
    prefix: str,
) -> Diff:
    """What two models say of the same images."""
    return compare(_table, old, new, bucket=bucket, prefix=prefix)


def state_of(table: DeltaTable) -> State:
    """What tells a table's answers of now from all others."""
    return str(table.metadata().id), table.version()
