"""Data: what the prepared training set looks like, as the DVC stage `overview` wrote it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.charts import by_split, plane
from app.installation import settings
from app.words import bars, plain


def page() -> None:
    st.title("Training data")
    folder = settings().data_overview
    file = folder / "overview.json"
    if not file.exists():
        st.info("No data is prepared here: `dvc repro` prepares it, and writes what is shown here.")
        return
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    st.subheader(plain(found["name"]))
    st.caption(f"digest {found['digest']}")
    rows = found["rows"]
    for column, (split, count) in zip(st.columns(len(rows)), rows.items(), strict=True):
        column.metric(plain(split), f"{count:,}")
    _emotions(found, folder)
    _histograms(found)
    if found["plane"]:
        plane(found["plane"], ("valence", "arousal"))
    _problems(found)


def _emotions(found: dict[str, Any], folder: Path) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**How many images each emotion leads in**")
        st.dataframe(pd.DataFrame(found["leading"]), alt="Images by leading emotion and split")
    with right:
        st.markdown("**Mean share of the votes**")
        st.html(bars(found["mean"]))
    st.markdown("**What most people name so, the surest first**")
    for emotion in found["mean"]:
        picture = folder / f"{emotion}.png"
        if picture.exists():
            st.image(str(picture), caption=emotion, alt=f"Training images that read as {emotion}")


def _histograms(found: dict[str, Any]) -> None:
    titles = {"vote_entropy": "How much annotators disagree (entropy of the votes, nats)"}
    told = {"vote_entropy": found["vote_entropy"], **found["measures"]}
    sides = itertools.cycle(st.columns(2))
    for side, (name, histogram) in zip(sides, told.items(), strict=False):
        with side:
            title = titles.get(name, name.replace("_", " ").capitalize())
            by_split(histogram["edges"], histogram["counts"], title)


def _problems(found: dict[str, Any]) -> None:
    st.markdown("**What was left out, and what is asked of the rest**")
    lines = [f"- {count:,} dropped: {plain(why)}" for why, count in found["dropped"].items()]
    lines.append(
        f"- {found['alike']:,} images of other splits are nearly a training image; results are "
        "told with and without them"
    )
    for item in found["expectations"]:
        mark = "met" if item["success"] else f"**not met** by {item['rows']} rows"
        lines.append(f"- {plain(item['expectation'])}: {mark}")
    st.markdown("\n".join(lines))
