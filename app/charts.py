"""Charts that several pages draw. Each can be read as a table, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from moodlake.scoring.reports.html import colour_of

_HEIGHT = 220
Span = tuple[float, float]
_PART = "part"
_OF_SPLITS = ["#4477aa", "#cc6677", "#999933"]


def histogram(
    counts: Sequence[int], most: float, title: str, axis: str, draw: bool = True
) -> Span | None:
    """Counts in equal steps from 0 to `most`; returns the part that was drawn over."""
    step = most / len(counts)
    frame = pd.DataFrame(
        {
            "from": [step * index for index in range(len(counts))],
            "to": [step * (index + 1) for index in range(len(counts))],
            "images": counts,
        }
    )
    chart = (
        alt.Chart(frame, height=_HEIGHT, title=title)
        .mark_bar()
        .encode(
            alt.X("from:Q", bin="binned", title=axis),
            alt.X2("to:Q"),
            alt.Y("images:Q", title="images"),
            tooltip=["from", "to", "images"],
        )
    )
    words = f"{title}: a histogram of {sum(counts):,} images by {axis}"
    if not draw:
        show_chart(chart, frame, words)
        return None
    chart = chart.add_params(alt.selection_interval(name=_PART, encodings=["x"]))
    state = st.altair_chart(chart, width="stretch", alt=words, on_select="rerun", key=title)
    _as_table(frame)
    drawn = list(state["selection"].get(_PART, {}).values())
    return (float(drawn[0][0]), float(drawn[0][-1])) if drawn and drawn[0] else None


def by_split(edges: Sequence[float], counts: Mapping[str, Sequence[int]], title: str) -> None:
    """Histograms of several splits, each as shares of its own images, one upon the other."""
    frame = pd.DataFrame(
        {
            "from": low,
            "to": high,
            "split": split,
            "images": count,
            "share": count / max(1, sum(told)),
        }
        for split, told in counts.items()
        for low, high, count in zip(edges, edges[1:], told, strict=False)
    )
    ends = frame.drop_duplicates("split", keep="last")
    chart = (
        # Where the last step ends is a point as well.
        alt.Chart(
            pd.concat([frame, ends.assign(**{"from": ends["to"]})]), height=_HEIGHT, title=title
        )
        .mark_line(interpolate="step-after")
        .encode(
            alt.X("from:Q", title=None).scale(zero=False),
            alt.Y("share:Q", title="share of its images", axis=alt.Axis(format="%")),
            alt.Color("split:N").scale(range=_OF_SPLITS),
            alt.StrokeDash("split:N"),
            tooltip=["split", "from", "to", "images"],
        )
    )
    show_chart(chart, frame, f"Histogram by split: {title}")


def plane(points: Sequence[Sequence[Any]], titles: Sequence[str]) -> None:
    """Images as points; the shape tells their emotion, and so does the colour.

    Args:
        points: the value on each axis, and the emotion.
        titles: of the two axes.
    """
    across, up = titles
    frame = pd.DataFrame(points, columns=[across, up, "emotion"])
    chart = (
        alt.Chart(frame, height=2 * _HEIGHT, title=f"{across} and {up}".capitalize())
        .mark_point()
        .encode(
            alt.X(f"{across}:Q").scale(zero=False),
            alt.Y(f"{up}:Q").scale(zero=False),
            alt.Shape("emotion:N"),
            alt.Color("emotion:N", scale=emotion_colours(frame["emotion"])),
            tooltip=[across, up, "emotion"],
        )
    )
    words = f"Images by {across} and {up}; the shape tells the leading emotion"
    show_chart(chart, frame, words)


def by_day(means: Mapping[date, tuple[int, Mapping[str, float]]]) -> None:
    """The mean probability of each emotion by date; lines bear the emotion's name."""
    frame = pd.DataFrame(
        [
            {"day": pd.Timestamp(day), "emotion": emotion, "mean": mean, "images": count}
            for day, (count, told) in means.items()
            for emotion, mean in told.items()
        ]
    )
    places = {
        "x": alt.X("day:T", title=None),
        "y": alt.Y("mean:Q", title="mean probability", axis=alt.Axis(format="%")),
        "color": alt.Color("emotion:N", scale=emotion_colours(frame["emotion"]), legend=None),
    }
    lines = alt.Chart(frame, height=1.5 * _HEIGHT, title="By date").mark_line(point=True)
    last = alt.Chart(frame[frame["day"] == frame["day"].max()]).mark_text(align="left", dx=6)
    chart = lines.encode(**places) + last.encode(**places, text="emotion:N")
    show_chart(chart, frame, "Mean probability of each emotion by the date of change")


def emotion_colours(emotions: pd.Series) -> alt.Scale:
    """The colour that each of them has on every page."""
    names = sorted(emotions.unique())
    return alt.Scale(domain=names, range=[colour_of(name) for name in names])


def show_chart(chart: alt.Chart | alt.LayerChart, frame: pd.DataFrame, words: str) -> None:
    """A chart, what it shows in words, and its numbers."""
    st.altair_chart(chart, width="stretch", alt=words)
    _as_table(frame)


def _as_table(frame: pd.DataFrame) -> None:
    with st.expander("As a table"):
        st.dataframe(frame, hide_index=True)
