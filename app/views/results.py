"""The page Results: filter the results table, chart the matching rows, inspect one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.cached_queries import (
    choices_of,
    max_entropy,
    overview_of,
    results_table,
    rows_of,
    state_of,
    with_tables,
)
from app.charts import histogram, means_by_day
from app.image_view import show_row
from app.widgets import select_row
from app.wording import bars, reason_line
from moodlake.reasons import Reason, Status
from moodlake.scoring.reports.html import percent
from moodlake.scoring.tables.queries import ORDERS, Choices, Filter, Overview

_ALL = "all"
_MAX_ROWS = 200
_COLUMNS = {
    "bucket": "bucket",
    "key": "key",
    "dominant": "dominant emotion",
    "confidence": "confidence",
    "entropy": "entropy",
    "reason": "rejection reason",
    "model_version": "model",
    "data_date": "last modified",
}
_IN_URL: Literal["query-params"] = "query-params"
_CONFIDENCE_KEY = "sure"  # stays as it is in the URLs that users have shared


@with_tables
def page() -> None:
    st.title("Results")
    table = results_table()
    if table is None:
        return
    state = state_of(table)
    offered = choices_of(state, table)
    if offered is None:
        st.info("The results table is empty.")
        return
    chosen = _select_filter(offered)
    overview = overview_of(state, table, chosen, max_entropy(len(offered.emotions)))
    if not overview.rows:
        st.info("No rows match. Remove a filter.")
        return
    chosen = _show_overview(overview, chosen, len(offered.emotions))
    order = st.selectbox("Sort by", list(ORDERS), bind=_IN_URL, key="order")
    rows = rows_of(state, table, chosen, order, _MAX_ROWS)
    if row := _select_row(rows):
        show_row(row, offered.emotions)


def _select_filter(offered: Choices) -> Filter:
    """Return the selected filter, which is part of the page's URL and so can be shared."""
    with st.expander("Filter", expanded=True):
        first, second, third, fourth = st.columns(4)
        bucket = first.selectbox("Bucket", [_ALL, *offered.buckets], key="bucket", bind=_IN_URL)
        prefix = first.text_input("Key prefix", key="prefix", bind=_IN_URL)
        models = {str(model): model.digest for model in offered.models}
        model = second.selectbox("Model", [_ALL, *models], key="model", bind=_IN_URL)
        emotion = second.selectbox(
            "Dominant emotion", [_ALL, *offered.emotions], key="emotion", bind=_IN_URL
        )
        outcome = third.selectbox(
            "Status or reason", [_ALL, *Status, *Reason], key="outcome", bind=_IN_URL
        )
        confidence = third.slider(
            "Confidence", 0, 100, (0, 100), format="%d %%", key=_CONFIDENCE_KEY, bind=_IN_URL
        )
        run = fourth.text_input("Run ID", key="run", bind=_IN_URL)
        days = fourth.date_input(
            "Last modified (UTC)",
            offered.days,
            min_value=offered.days[0],
            max_value=offered.days[1],
            key="days",
            bind=_IN_URL,
        )
    first_day, last_day = (*days, None, None)[:2] if isinstance(days, tuple) else (days, days)

    def unless_all(value: str) -> str | None:
        return None if value == _ALL else value

    return Filter(
        bucket=unless_all(bucket),
        prefix=prefix,
        first_day=first_day if first_day != offered.days[0] else None,
        last_day=last_day if last_day != offered.days[1] else None,
        model=models.get(model),
        run=run or None,
        emotion=unless_all(emotion),
        min_confidence=confidence[0] / 100,
        max_confidence=confidence[1] / 100,
        outcome=unless_all(outcome),
    )


def _show_overview(overview: Overview, chosen: Filter, emotions: int) -> Filter:
    """Show counts and charts; return the filter, narrowed to the range selected in a chart."""
    counts = st.columns(3)
    counts[0].metric("Rows", f"{overview.rows:,}")
    counts[1].metric("Scored", f"{overview.scored:,}")
    counts[2].metric("Rejected", f"{overview.rows - overview.scored:,}")
    left, right = st.columns(2)
    with left:
        if overview.mean:
            st.markdown("**Mean distribution**")
            st.html(bars(overview.mean, "Mean distribution"))
    with right:
        if overview.dominant:
            st.markdown("**Dominant emotion**")
            shares = {name: n / overview.scored for name, n in overview.dominant.items()}
            st.html(bars(shares, "Dominant emotions"))
    for reason, count in overview.reasons.items():
        st.markdown(reason_line(reason, count))
    if not overview.scored:
        return chosen
    left, right = st.columns(2)
    with left:
        axis = "probability of the dominant emotion"
        selected = histogram(overview.confidence, 1.0, "Confidence", axis)
    with right:
        upper = max_entropy(emotions)
        histogram(overview.entropy, upper, "Entropy", "entropy, nats", selectable=False)
    if len(overview.by_day) > 1:
        means_by_day(overview.by_day)
    if selected is None:
        st.caption(
            "To narrow the rows below, select a range in the *Confidence* chart or move the "
            "*Confidence* slider above."
        )
        return chosen
    least, most = max(selected[0], chosen.min_confidence), min(selected[1], chosen.max_confidence)
    st.caption(f"Rows below: confidence from {percent(least)} to {percent(most)}.")
    return replace(chosen, min_confidence=least, max_confidence=most)


def _select_row(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the selected row, or the only one."""
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).rename(columns=_COLUMNS)
    columns = {
        "confidence": st.column_config.NumberColumn(format="percent"),
        "entropy": st.column_config.NumberColumn(format="%.2f"),
    }
    description = "Rows of the results table; select one to see its image and lineage"
    place = select_row(frame, "rows", description, columns, select_first=False)
    if place is None and len(rows) == 1:
        place = 0
    if len(rows) == _MAX_ROWS:
        st.caption(
            f"The first {_MAX_ROWS} rows. To export the whole table, run "
            "`moodlake table --out results.parquet`."
        )
    return None if place is None else rows[place]
