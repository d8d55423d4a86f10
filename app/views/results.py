"""Results: from all rows to a filter's, to one image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.charts import by_day, histogram
from app.choose import choose_row
from app.one_row import show_row
from app.tables import (
    choices_of,
    most_entropy,
    overview_of,
    results,
    rows_of,
    state_of,
    with_tables,
)
from app.words import bars, told_reason
from moodlake.reasons import Reason, Status
from moodlake.scoring.reports.html import percent
from moodlake.scoring.tables.queries import ORDERS, Choices, Filter, Overview

_ALL = "all"
_SHOWN = 200
_COLUMNS = {
    "bucket": "bucket",
    "key": "key",
    "dominant": "reads as",
    "confidence": "sure",
    "entropy": "entropy",
    "reason": "not scored",
    "model_version": "model",
    "data_date": "changed",
}
_IN_ADDRESS: Literal["query-params"] = "query-params"


@with_tables
def page() -> None:
    st.title("Results")
    table = results()
    if table is None:
        return
    state = state_of(table)
    offered = choices_of(state, table)
    if offered is None:
        st.info("The table has no rows yet.")
        return
    chosen = _filter(offered)
    found = overview_of(state, table, chosen, most_entropy(len(offered.emotions)))
    if not found.rows:
        st.info("No row is like that. Take back one of the filters.")
        return
    chosen = _charts(found, chosen, len(offered.emotions))
    order = st.selectbox("First", list(ORDERS), bind=_IN_ADDRESS, key="order")
    rows = rows_of(state, table, chosen, order, _SHOWN)
    if row := _choose(rows):
        show_row(row, offered.emotions)


def _filter(offered: Choices) -> Filter:
    """What is chosen; it is in the page's address, so that it can be sent to others."""
    with st.expander("Filter", expanded=True):
        first, second, third, fourth = st.columns(4)
        bucket = first.selectbox("Bucket", [_ALL, *offered.buckets], key="bucket", bind=_IN_ADDRESS)
        prefix = first.text_input("Keys that start with", key="prefix", bind=_IN_ADDRESS)
        models = {str(model): model.digest for model in offered.models}
        model = second.selectbox("Model", [_ALL, *models], key="model", bind=_IN_ADDRESS)
        emotion = second.selectbox(
            "Reads as", [_ALL, *offered.emotions], key="emotion", bind=_IN_ADDRESS
        )
        outcome = third.selectbox(
            "Outcome", [_ALL, *Status, *Reason], key="outcome", bind=_IN_ADDRESS
        )
        sure = third.slider("Sure", 0, 100, (0, 100), format="%d %%", key="sure", bind=_IN_ADDRESS)
        run = fourth.text_input("Run", key="run", bind=_IN_ADDRESS)
        days = fourth.date_input(
            "Changed on",
            offered.days,
            min_value=offered.days[0],
            max_value=offered.days[1],
            key="days",
            bind=_IN_ADDRESS,
        )
    first_day, last_day = (*days, None, None)[:2] if isinstance(days, tuple) else (days, days)

    def given(value: str) -> str | None:
        return None if value == _ALL else value

    return Filter(
        bucket=given(bucket),
        prefix=prefix,
        first_day=first_day if first_day != offered.days[0] else None,
        last_day=last_day if last_day != offered.days[1] else None,
        model=models.get(model),
        run=run or None,
        emotion=given(emotion),
        least_sure=sure[0] / 100,
        most_sure=sure[1] / 100,
        outcome=given(outcome),
    )


def _charts(found: Overview, chosen: Filter, emotions: int) -> Filter:
    """What the rows say together; returns the filter of the part that was drawn over in a chart."""
    rejected = found.rows - found.scored
    counts = st.columns(3)
    counts[0].metric("Rows", f"{found.rows:,}")
    counts[1].metric("Scored", f"{found.scored:,}")
    counts[2].metric("Rejected", f"{rejected:,}")
    left, right = st.columns(2)
    with left:
        if found.mean:
            st.markdown("**On average**")
            st.html(bars(found.mean, "Emotions on average"))
    with right:
        if found.dominant:
            st.markdown("**Most probable emotion**")
            shares = {name: n / found.scored for name, n in found.dominant.items()}
            st.html(bars(shares, "Most probable emotions"))
    for reason, count in found.reasons.items():
        st.markdown(told_reason(reason, count))
    if not found.scored:
        return chosen
    left, right = st.columns(2)
    with left:
        part = histogram(found.confidence, 1.0, "How sure", "probability of the dominant emotion")
    with right:
        histogram(found.entropy, most_entropy(emotions), "How mixed", "entropy, nats", draw=False)
    if len(found.by_day) > 1:
        by_day(found.by_day)
    if part is None:
        st.caption(
            "Draw over a part of *How sure*, or move *Sure* above, to see only its rows below."
        )
        return chosen
    least, most = max(part[0], chosen.least_sure), min(part[1], chosen.most_sure)
    st.caption(f"Below: rows that are {percent(least)} to {percent(most)} sure.")
    return replace(chosen, least_sure=least, most_sure=most)


def _choose(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that is ticked; or the only one."""
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).rename(columns=_COLUMNS)
    shown = {
        "sure": st.column_config.NumberColumn(format="percent"),
        "entropy": st.column_config.NumberColumn(format="%.2f"),
    }
    words = "Rows of the table; choose one to see all of it"
    place = choose_row(frame, "rows", words, shown, first=False)
    if place is None and len(rows) == 1:
        place = 0
    if len(rows) == _SHOWN:
        st.caption(
            f"The first {_SHOWN}; `moodlake table --out results.parquet` exports the whole table"
        )
    return None if place is None else rows[place]
