"""The page Compare: two models on the images that both have scored."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import streamlit as st
from deltalake import DeltaTable

from app.cached_queries import choices_of, diff_of, results_table, state_of, with_tables
from app.image_view import show_bucket_image
from app.widgets import select_row, show_report
from app.wording import bars, escape_markdown
from moodlake.scoring.reports.diff import ChangedImage, Diff, DiffError
from moodlake.scoring.reports.diff_report import render_diff

_ALL = "all"


@with_tables
def page() -> None:
    st.title("Compare two models")
    table = results_table()
    if table is None:
        return
    try:
        diff = _select_models(table)
    except DiffError as error:
        st.info(escape_markdown(str(error)))
        return
    if diff is None:
        st.info(
            "All results come from one model. Run the DAG `rescore` to score the images with "
            "another one."
        )
        return
    _show_metrics(diff)
    if image := _select_image(diff):
        _show_both(image, diff)
    show_report(render_diff(diff).encode(), "diff.html", "Report of the differences")


def _select_models(table: DeltaTable) -> Diff | None:
    """Compare the two selected models; return None if the table has results of only one."""
    state = state_of(table)
    offered = choices_of(state, table)
    if offered is None or len(offered.models) < 2:
        return None
    models = {str(model): model.digest for model in offered.models}
    columns = st.columns(4)
    old = columns[0].selectbox("Old model", models, index=1, key="old", bind="query-params")
    new = columns[1].selectbox("New model", models, index=0, key="new", bind="query-params")
    bucket = columns[2].selectbox("Bucket", [_ALL, *offered.buckets], key="in", bind="query-params")
    prefix = columns[3].text_input("Key prefix", key="with", bind="query-params")
    if old == new:
        raise DiffError("Select two different models.")
    only = None if bucket == _ALL else bucket
    return diff_of(state, table, models[old], models[new], only, prefix)


def _show_metrics(diff: Diff) -> None:
    changes = diff.changes
    metrics = st.columns(4)
    metrics[0].metric("Scored by both", f"{changes.pairs:,}")
    metrics[1].metric("Dominant emotion changed", f"{100 * changes.changed:.1f} %")
    metrics[2].metric(
        "Mean distance",
        f"{changes.mean_distance:.3f}",
        help="Jensen-Shannon distance of the two distributions: 0 if equal, 1 if disjoint",
    )
    metrics[3].metric("Median distance", f"{changes.quantiles[0.5]:.3f}")


def _select_image(diff: Diff) -> ChangedImage | None:
    """Return the selected image of those that changed most, initially the first."""
    images = diff.changes.most_changed
    dominant = [
        [diff.emotions[int(np.argmax(side))] for side in (image.old, image.new)] for image in images
    ]
    frame = pd.DataFrame(
        {
            "key": [image.key for image in images],
            "distance": [image.distance for image in images],
            "old emotion": [old for old, _ in dominant],
            "new emotion": [new for _, new in dominant],
        }
    )
    st.markdown("**Most changed images**")
    columns = {"distance": st.column_config.NumberColumn(format="%.3f")}
    description = "The most changed images; select one to see both distributions"
    place = select_row(frame, "changed", description, columns)
    return None if place is None else images[place]


def _show_both(image: ChangedImage, diff: Diff) -> None:
    st.subheader(escape_markdown(image.key))
    for column, model, side in zip(
        st.columns(2), (diff.old, diff.new), (image.old, image.new), strict=True
    ):
        with column:
            st.markdown(f"**{escape_markdown(str(model))}**")
            distribution = dict(zip(diff.emotions, side, strict=True))
            st.html(bars(distribution, f"Emotions by {model}"))
    show_bucket_image(asdict(image))
