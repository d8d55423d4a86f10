"""Queries to the results table, cached as long as the table does not change."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import streamlit as st
from botocore.exceptions import BotoCoreError, ClientError
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from app.backend import settings
from app.wording import escape_markdown
from moodlake.errors import UserError
from moodlake.scoring.reports.diff import Diff, compare
from moodlake.scoring.tables.delta import open_table
from moodlake.scoring.tables.queries import Choices, Filter, Overview, choices, first_rows, overview

P = ParamSpec("P")
TableState = tuple[str, int]
"""A table's id and version: the key of cached answers."""
_MAX_CACHED = 64


def with_tables(page: Callable[P, None]) -> Callable[P, None]:
    """Decorate a page: show a message instead of it if the tables cannot be read."""

    @wraps(page)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            page(*args, **kwargs)
        except (UserError, DeltaError, OSError, ClientError, BotoCoreError) as error:
            uri = escape_markdown(settings().results_uri)
            st.error(f"Cannot read the tables at {uri}: {escape_markdown(str(error))}")
            st.markdown(
                "Start a local stack with `moodlake up`, or set `MOODLAKE_RESULTS_URI` to the "
                "tables' location and restart the web app."
            )

    return wrapper


def results_table() -> DeltaTable | None:
    """Open the results table; show a message and return None if it does not exist."""
    table = open_table(settings().results_table)
    if table is None:
        st.info(
            "No images have been scored yet. Upload some with `moodlake put photos/`, then start "
            "a run with `moodlake run`."
        )
    return table


def state_of(table: DeltaTable) -> TableState:
    """Return the key under which answers about the table are cached."""
    return str(table.metadata().id), table.version()


@st.cache_data(max_entries=_MAX_CACHED, show_spinner="Reading the table")
def choices_of(state: TableState, _table: DeltaTable) -> Choices | None:
    """Return the values to filter by; None for an empty table."""
    return choices(_table)


@st.cache_data(max_entries=_MAX_CACHED, show_spinner="Counting rows")
def overview_of(state: TableState, _table: DeltaTable, chosen: Filter, entropy: float) -> Overview:
    """Return statistics of the rows that match a filter; `entropy` is the histogram's end."""
    return overview(_table, chosen, entropy)


@st.cache_data(max_entries=_MAX_CACHED, show_spinner="Reading rows")
def rows_of(
    state: TableState, _table: DeltaTable, chosen: Filter, order: str, count: int
) -> list[dict[str, Any]]:
    """Return the first `count` rows that match a filter."""
    return first_rows(_table, chosen, order, count).to_pylist()


@st.cache_data(max_entries=_MAX_CACHED, show_spinner="Comparing the models")
def diff_of(
    state: TableState, _table: DeltaTable, old: str, new: str, bucket: str | None, prefix: str
) -> Diff:
    """Compare the results of two models, given by digest, for the images that both scored."""
    return compare(_table, old, new, bucket=bucket, prefix=prefix)


def max_entropy(emotions: int) -> float:
    """Return the entropy of a uniform distribution over `emotions` emotions, in nats."""
    return math.log(emotions)
