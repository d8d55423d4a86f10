"""Charts that several pages draw, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from moodlake.scoring.reports.html import colour_of

_HEIGHT = 220
Interval = tuple[float, float]
_SELECTION = "part"
_SPLIT_COLOURS = ["#4477aa", "#cc6677", "#999933"]


def histogram(
    counts: Sequence[int], upper: float, title: str, axis: str, *, selectable: bool = True
) -> Interval | None:
    """Draw counts in equal bins from 0 to `upper`; return the interval that the user selects."""
    step = upper / len(counts)
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
    description = f"{title}: a histogram of {sum(counts):,} images by {axis}"
    if not selectable:
        show_chart(chart, frame, description)
        return None
    chart = chart.add_params(alt.selection_interval(name=_SELECTION, encodings=["x"]))
    state = st.altair_chart(chart, width="stretch", alt=description, on_select="rerun", key=title)
    _show_table(frame)
    selected = list(state["selection"].get(_SELECTION, {}).values())
    return (float(selected[0][0]), float(selected[0][-1])) if selected and selected[0] else None


def histograms_by_split(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], title: str
) -> None:
    """Draw a histogram per split in one chart, each as shares of the split's images."""
    frame = pd.DataFrame(
        {
            "from": low,
            "to": high,
            "split": split,
            "images": count,
            "share": count / max(1, sum(split_counts)),
        }
        for split, split_counts in counts.items()
        for low, high, count in zip(edges, edges[1:], split_counts, strict=False)
    )
    ends = frame.drop_duplicates("split", keep="last")
    chart = (
        # The end of the last bin is a point as well.
        alt.Chart(
            pd.concat([frame, ends.assign(**{"from": ends["to"]})]), height=_HEIGHT, title=title
        )
        .mark_line(interpolate="step-after")
        .encode(
            alt.X("from:Q", title=None).scale(zero=False),
            alt.Y("share:Q", title="share of the split's images", axis=alt.Axis(format="%")),
            alt.Color("split:N").scale(range=_SPLIT_COLOURS),
            alt.StrokeDash("split:N"),
            tooltip=["split", "from", "to", "images"],
        )
    )
    show_chart(chart, frame, f"Histogram by split: {title}")


def plane(points: Sequence[Sequence[Any]], titles: Sequence[str]) -> None:
    """Draw images as points in a plane, with a shape and a colour per emotion.

    Args:
        points: of each image, the values on both axes and the emotion.
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
    show_chart(chart, frame, f"Images by {across} and {up}; the shape shows the dominant emotion")


def means_by_day(means: Mapping[date, tuple[int, Mapping[str, float]]]) -> None:
    """Draw each emotion's mean probability by date as a line with the emotion's name.

    Args:
        means: date -> number of images, and the mean of each emotion.
    """
    frame = pd.DataFrame(
        [
            {"day": pd.Timestamp(day), "emotion": emotion, "mean": mean, "images": count}
            for day, (count, by_emotion) in means.items()
            for emotion, mean in by_emotion.items()
        ]
    )
    places = {
        "x": alt.X("day:T", title="last modified"),
        "y": alt.Y("mean:Q", title="mean probability", axis=alt.Axis(format="%")),
        "color": alt.Color("emotion:N", scale=emotion_colours(frame["emotion"]), legend=None),
    }
    title = "Mean probability by date"
    lines = alt.Chart(frame, height=1.5 * _HEIGHT, title=title).mark_line(point=True)
    last = alt.Chart(frame[frame["day"] == frame["day"].max()]).mark_text(align="left", dx=6)
    chart = lines.encode(**places) + last.encode(**places, text="emotion:N")
    show_chart(chart, frame, "Mean probability of each emotion by the images' date")


def emotion_colours(emotions: pd.Series) -> alt.Scale:
    """Return the colour scale of emotions, the same on every page."""
    names = sorted(emotions.unique())
    return alt.Scale(domain=names, range=[colour_of(name) for name in names])


def show_chart(chart: alt.Chart | alt.LayerChart, frame: pd.DataFrame, description: str) -> None:
    """Show a chart with a description for screen readers, and its numbers as a table."""
    st.altair_chart(chart, width="stretch", alt=description)
    _show_table(frame)


def _show_table(frame: pd.DataFrame) -> None:
    with st.expander("As a table"):
        st.dataframe(frame, hide_index=True)
