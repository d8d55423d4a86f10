"""What several pages show alike: a table of which one row is chosen, and a report."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd
import streamlit as st

_REPORT_HEIGHT = 900


def choose_row(
    frame: pd.DataFrame, key: str, words: str, columns: dict[str, Any], *, first: bool = True
) -> int | None:
    """Show a table; returns the place of the row that is ticked, if one is.

    Args:
        frame: the rows.
        key: of the widget.
        words: what the table is, for a screen reader.
        columns: their configurations, by name.
        first: tick the first row until another one is.
    """
    state = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [0] if first else [], "columns": [], "cells": []}},
        column_config=columns,
        placeholder="",
        alt=words,
        key=key,
    )
    # What was ticked may be of a longer table.
    return next((place for place in state["selection"]["rows"] if place < len(frame)), None)


def show_report(page: bytes, name: str, words: str) -> None:
    """A page of HTML, to be saved and to be seen. As a data: address it has no access to this one.

    Args:
        page: its text.
        name: of the file.
        words: what it is, for a screen reader.
    """
    st.download_button("Report (HTML)", page, name, "text/html", on_click="ignore")
    encoded = base64.b64encode(page).decode()
    st.iframe(f"data:text/html;charset=utf-8;base64,{encoded}", height=_REPORT_HEIGHT, alt=words)
