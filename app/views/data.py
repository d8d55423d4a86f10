"""Data: what the prepared training set looks like, as the DVC stage `overview` wrote it."""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.charts import emotion_colours, histogram_chart, show_chart
from app.words import bars, plain
from moodlake.settings import PROJECT_ROOT

_FOLDER = PROJECT_ROOT / "data" / "overview"
_HEIGHT = 400


def page() -> None:
    st.title("Training data")
    file = _FOLDER / "overview.json"
    if not file.exists():
        st.info("No data is prepared here: `dvc repro` prepares it, and writes what is shown here.")
        return
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    st.subheader(plain(found["name"]))
    st.caption(f"digest {found['digest']}")
    rows = found["rows"]
    for column, (split, count) in zip(st.columns(len(rows)), rows.items(), strict=True):
        column.metric(plain(split), f"{count:,}")
    _emotions(found)
    _histograms(found)
    if found["plane"]:
        _plane(found["plane"])
    _problems(found)


def _emotions(found: dict[str, Any]) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**How many images each emotion leads in**")
        st.dataframe(pd.DataFrame(found["leading"]), alt="Images by leading emotion and split")
    with right:
        st.markdown("**Mean share of the votes**")
        st.html(bars(found["mean"]))
    st.markdown("**What most people name so, the surest first**")
    for emotion in found["mean"]:
        picture = _FOLDER / f"{emotion}.png"
        if picture.exists():
            st.image(str(picture), caption=emotion, alt=f"Training images that read as {emotion}")


def _histograms(found: dict[str, Any]) -> None:
    titles = {"vote_entropy": "How much annotators disagree (entropy of the votes, nats)"}
    for name, told in {"vote_entropy": found["vote_entropy"], **found["measures"]}.items():
        title = titles.get(name, name.replace("_", " ").capitalize())
        edges = told["edges"]
        frame = pd.DataFrame(
            {"from": low, "to": high, "split": split, "images": count}
            for split, counts in told["counts"].items()
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        )
        chart = histogram_chart(frame, title).encode(alt.Row("split:N", title=None))
        chart = chart.resolve_scale(y="independent")
        show_chart(chart, frame, f"Histogram by split: {title}")


def _plane(points: list[list[Any]]) -> None:
    frame = pd.DataFrame(points, columns=["valence", "arousal", "emotion"])
    chart = (
        alt.Chart(frame, height=_HEIGHT, title="Valence and arousal")
        .mark_point()
        .encode(
            alt.X("valence:Q").scale(zero=False),
            alt.Y("arousal:Q").scale(zero=False),
            alt.Shape("emotion:N"),
            alt.Color("emotion:N", scale=emotion_colours(frame["emotion"])),
            tooltip=["valence", "arousal", "emotion"],
        )
    )
    show_chart(chart, frame, "Images by valence and arousal; the shape tells the leading emotion")


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
