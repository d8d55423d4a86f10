"""The page Data: the prepared training set, as the DVC stage `overview` describes it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.backend import settings
from app.charts import histograms_by_split, plane
from app.wording import bars, escape_markdown


def page() -> None:
    st.title("Training data")
    folder = settings().data_overview
    file = folder / "overview.json"
    if not file.exists():
        st.info("No training data has been prepared. Run `dvc repro` to prepare and describe it.")
        return
    overview: dict[str, Any] = json.loads(file.read_text("utf-8"))
    st.subheader(escape_markdown(overview["name"]))
    st.caption(f"digest {overview['digest']}")
    rows = overview["rows"]
    for column, (split, count) in zip(st.columns(len(rows)), rows.items(), strict=True):
        column.metric(escape_markdown(split), f"{count:,}")
    _show_emotions(overview, folder)
    _show_histograms(overview)
    if overview["plane"]:
        plane(overview["plane"], ("valence", "arousal"))
    _show_checks(overview)


def _show_emotions(overview: dict[str, Any], folder: Path) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**Images by dominant emotion**")
        st.dataframe(pd.DataFrame(overview["leading"]), alt="Images by dominant emotion and split")
    with right:
        st.markdown("**Mean share of the votes**")
        st.html(bars(overview["mean"]))
    st.markdown("**Examples with the most agreement**")
    for emotion in overview["mean"]:
        picture = folder / f"{emotion}.png"
        if picture.exists():
            st.image(str(picture), caption=emotion, alt=f"Training images of {emotion}")


def _show_histograms(overview: dict[str, Any]) -> None:
    titles = {"vote_entropy": "Annotator disagreement (entropy of the votes, nats)"}
    histograms = {"vote_entropy": overview["vote_entropy"], **overview["measures"]}
    sides = itertools.cycle(st.columns(2))
    for side, (name, values) in zip(sides, histograms.items(), strict=False):
        with side:
            title = titles.get(name, name.replace("_", " ").capitalize())
            histograms_by_split(values["edges"], values["counts"], title)


def _show_checks(overview: dict[str, Any]) -> None:
    st.markdown("**Excluded images and checks**")
    lines = [
        f"- {count:,} excluded: {escape_markdown(why)}"
        for why, count in overview["dropped"].items()
    ]
    lines.append(
        f"- {overview['alike']:,} images of other splits are near-duplicates of a training image; "
        "metrics are reported with and without them"
    )
    for check in overview["expectations"]:
        outcome = "passed" if check["success"] else f"**failed** for {check['rows']} rows"
        lines.append(f"- {escape_markdown(check['expectation'])}: {outcome}")
    st.markdown("\n".join(lines))
