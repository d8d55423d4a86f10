"""Many images: a table of how each reads, and files to take away."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.choose import choose_row
from app.upload_session import Item, UploadSession
from app.words import ranked
from moodlake.reasons import Status, outcomes
from moodlake.scoring.tables.writers import open_writer

_TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def show_list(done: Sequence[Item], emotions: Sequence[str]) -> Item | None:
    """A table of the images; returns the one that was chosen, at first the first."""
    rows = [item.row for item in done if item.row]
    st.markdown(outcomes(Counter(row["reason"] or row["status"] for row in rows)))
    shown = {
        "sure": st.column_config.ProgressColumn("sure", format="percent", max_value=1.0),
        "entropy": st.column_config.NumberColumn("entropy", format="%.2f"),
    }
    frame = pd.DataFrame([_told(item, emotions) for item in done])
    place = choose_row(frame, "list", "How each image reads; choose a row to see it", shown)
    return None if place is None else done[place]


def _told(item: Item, emotions: Sequence[str]) -> dict[str, Any]:
    row = item.row
    assert row
    if row["status"] == Status.REJECTED:
        return {"image": item.name, "reads as": None, "not scored": row["reason"]}
    (first, sure), (second, _), *_ = ranked({name: row[name] for name in emotions})
    return {
        "image": item.name,
        "reads as": first,
        "sure": sure,
        "or": second,
        "entropy": row["entropy"],
        "faces": row["faces"],
    }


def download(desk: UploadSession, done: Sequence[Item], suffix: Literal["csv", "parquet"]) -> None:
    """A button for all results, in the columns of the results table."""
    st.download_button(
        f"Results ({suffix.upper() if suffix == 'csv' else suffix.title()})",
        lambda: _file(desk, done, suffix),
        file_name=f"results.{suffix}",
        mime=_TYPES[suffix],
        on_click="ignore",
    )


def _file(desk: UploadSession, done: Sequence[Item], suffix: str) -> bytes:
    assert desk.engine
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"results.{suffix}")
        with open_writer(str(path), desk.engine.space) as writer:
            writer.write([item.row for item in done if item.row])
        return path.read_bytes()
