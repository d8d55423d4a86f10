"""Widgets that several pages use: a table with one selectable row, and an embedded report."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd
import streamlit as st

_REPORT_HEIGHT = 900


def select_row(
    frame: pd.DataFrame,
    key: str,
    description: str,
    columns: dict[str, Any],
    *,
    select_first: bool = True,
) -> int | None:
    """Show a table; return the position of the selected row, or None.

    Args:
        frame: the rows.
        key: of the widget.
        description: what the table shows, for screen readers.
        columns: Streamlit column configurations, by column name.
        select_first: select the first row until the user selects another one.
    """
    selected = [0] if select_first else []
    state = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": selected, "columns": [], "cells": []}},
        column_config=columns,
        placeholder="",
        alt=description,
        key=key,
    )
    # The selection may stem from a longer table.
    return next((place for place in state["selection"]["rows"] if place < len(frame)), None)


def show_report(content: bytes, file_name: str, description: str) -> None:
    """Show an HTML report, with a button to download it.

    The report is embedded as a data: URL, so that it cannot access the web app.

    Args:
        content: the HTML.
        file_name: of the download.
        description: what the report shows, for screen readers.
    """
    st.download_button("Report (HTML)", content, file_name, "text/html", on_click="ignore")
    encoded = base64.b64encode(content).decode()
    url = f"data:text/html;charset=utf-8;base64,{encoded}"
    st.iframe(url, height=_REPORT_HEIGHT, alt=description)
