"""One row of the results: how the image reads, and what made the row."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.installation import settings
from app.words import bars, plain, uncertainty
from moodlake.drawing import preview
from moodlake.reasons import Reason, Rejected, Status
from moodlake.scoring.lineage import trace
from moodlake.scoring.rows import IDENTITY, faces_in
from moodlake.scoring.s3 import image_of, s3_client

_SHORT_SIDE = 480


def show_row(row: dict[str, Any], emotions: tuple[str, ...]) -> None:
    """All that is known of a row.

    Args:
        row: its columns, at least those of IDENTITY.
        emotions: of all models that have rows in the table.
    """
    same = [
        item
        for item in trace(row["key"], settings(), row["bucket"])
        if all(item.row[name] == row[name] for name in IDENTITY)
    ]
    if not same:
        st.info("This row has been replaced since; load the page anew.")
        return
    item, whole = same[0], same[0].row
    st.subheader(plain(row["key"]))
    if not item.current:
        st.caption("An older version of the object; the table has a newer one.")
    left, right = st.columns(2)
    with left:
        told = {name: whole[name] for name in emotions if whole.get(name) is not None}
        if whole["status"] == Status.REJECTED:
            st.warning(Reason(whole["reason"]).explanation)
            st.caption(plain(whole["detail"] or ""))
        else:
            st.html(bars(told))
            st.markdown(uncertainty(told, whole["entropy"]))
    with right:
        _show_picture(whole, tuple(told))
    for title, facts in item.sections().items():
        with st.expander(title.capitalize()):
            st.table({"": list(facts), "value": [str(value) for value in facts.values()]})


def _show_picture(row: dict[str, Any], emotions: tuple[str, ...]) -> None:
    if not settings().show_images:
        st.caption(
            "Images of buckets are not shown here. Started with `MOODLAKE_SHOW_IMAGES=true`, this "
            "page reads them with its own credentials."
        )
        return
    try:
        data = image_of(s3_client(), row)
        shown = preview(data, faces_in(row, emotions) if emotions else (), _SHORT_SIDE)
    except Rejected as error:
        st.caption(f"There is no picture to show: {plain(str(error))}")
        return
    st.image(shown, width="stretch", alt=f"The image {row['key']}")
