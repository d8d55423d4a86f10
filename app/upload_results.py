"""Results of several uploads: a table with one row per image, and downloads."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.upload_session import Item, UploadSession
from app.widgets import select_row
from app.wording import ranked
from moodlake.reasons import Status, outcomes
from moodlake.scoring.tables.writers import open_writer

_TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def select_item(done: Sequence[Item], emotions: Sequence[str]) -> Item | None:
    """Show a table of the images; return the selected one, initially the first."""
    rows = [item.row for item in done if item.row]
    st.markdown(outcomes(Counter(row["reason"] or row["status"] for row in rows)))
    columns = {
        "confidence": st.column_config.ProgressColumn(format="percent", max_value=1.0),
        "entropy": st.column_config.NumberColumn(format="%.2f"),
    }
    frame = pd.DataFrame([_cells(item, emotions) for item in done])
    place = select_row(frame, "list", "Scored images; select a row to see its image", columns)
    return None if place is None else done[place]


def _cells(item: Item, emotions: Sequence[str]) -> dict[str, Any]:
    row = item.row
    assert row
    if row["status"] == Status.REJECTED:
        return {"image": item.name, "dominant emotion": None, "rejection reason": row["reason"]}
    (dominant, confidence), (second, _), *_ = ranked({name: row[name] for name in emotions})
    return {
        "image": item.name,
        "dominant emotion": dominant,
        "confidence": confidence,
        "second emotion": second,
        "entropy": row["entropy"],
        "faces": row["faces"],
    }


def download_button(
    session: UploadSession, done: Sequence[Item], suffix: Literal["csv", "parquet"]
) -> None:
    """Offer all rows as a file, in the columns of the results table."""
    st.download_button(
        f"Results ({suffix.upper() if suffix == 'csv' else suffix.title()})",
        lambda: _file(session, done, suffix),
        file_name=f"results.{suffix}",
        mime=_TYPES[suffix],
        on_click="ignore",
    )


def _file(session: UploadSession, done: Sequence[Item], suffix: str) -> bytes:
    assert session.engine
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"results.{suffix}")
        with open_writer(str(path), session.engine.space) as writer:
            writer.write([item.row for item in done if item.row])
        return path.read_bytes()
