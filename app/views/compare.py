"""Compare: what a new model says of the images that an old one has scored."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import streamlit as st
from deltalake import DeltaTable

from app.choose import choose_row, show_report
from app.one_row import show_stored
from app.tables import choices_of, diff_of, results, state_of, with_tables
from app.words import bars, plain
from moodlake.scoring.reports.diff import ChangedImage, Diff, DiffError
from moodlake.scoring.reports.diff_report import render_diff

_ALL = "all"


@with_tables
def page() -> None:
    st.title("Compare two models")
    table = results()
    if table is None:
        return
    try:
        found = _ask(table)
    except DiffError as error:
        st.info(plain(str(error)))
        return
    if found is None:
        st.info("Only one model has scored here. The DAG `rescore` lets a new one read old images.")
        return
    _headline(found)
    image = _choose(found)
    if image:
        _side_by_side(image, found)
    show_report(render_diff(found).encode(), "diff.html", "What changes, as a report")


def _ask(table: DeltaTable) -> Diff | None:
    """The two models and the place that are asked for; None if there are no two models."""
    state = state_of(table)
    offered = choices_of(state, table)
    if offered is None or len(offered.models) < 2:
        return None
    models = {str(model): model.digest for model in offered.models}
    columns = st.columns(4)
    old = columns[0].selectbox("Old model", models, index=1, key="old", bind="query-params")
    new = columns[1].selectbox("New model", models, index=0, key="new", bind="query-params")
    bucket = columns[2].selectbox("Bucket", [_ALL, *offered.buckets], key="in", bind="query-params")
    prefix = columns[3].text_input("Keys that start with", key="with", bind="query-params")
    if old == new:
        raise DiffError("Choose two different models.")
    of = None if bucket == _ALL else bucket
    return diff_of(state, table, models[old], models[new], of, prefix)


def _headline(found: Diff) -> None:
    changes = found.changes
    facts = st.columns(4)
    facts[0].metric("Scored by both", f"{changes.pairs:,}")
    facts[1].metric("Read as another emotion", f"{100 * changes.changed:.1f} %")
    facts[2].metric(
        "Mean distance",
        f"{changes.mean_distance:.3f}",
        help="Jensen-Shannon distance: 0 where both say the same, 1 where they share nothing",
    )
    facts[3].metric("Half are within", f"{changes.quantiles[0.5]:.3f}")


def _choose(found: Diff) -> ChangedImage | None:
    """One of the most changed images, at first the first."""
    images = found.changes.most_changed
    leads = [
        [found.emotions[int(np.argmax(side))] for side in (image.old, image.new)]
        for image in images
    ]
    frame = pd.DataFrame(
        {
            "key": [image.key for image in images],
            "distance": [image.distance for image in images],
            "old": [old for old, _ in leads],
            "new": [new for _, new in leads],
        }
    )
    st.markdown("**Most changed first**")
    shown = {"distance": st.column_config.NumberColumn(format="%.3f")}
    words = "The most changed images; choose one to see both distributions"
    place = choose_row(frame, "changed", words, shown)
    return None if place is None else images[place]


def _side_by_side(image: ChangedImage, found: Diff) -> None:
    st.subheader(plain(image.key))
    for column, model, side in zip(
        st.columns(2), (found.old, found.new), (image.old, image.new), strict=True
    ):
        with column:
            st.markdown(f"**{plain(str(model))}**")
            told = dict(zip(found.emotions, side, strict=True))
            st.html(bars(told, f"Emotions, says {model}"))
    show_stored(asdict(image))
