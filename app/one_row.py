"""One row of the results: how the image reads, and what made the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.installation import settings
from app.words import bars, plain, uncertainty, why
from moodlake.inference.drawing import preview
from moodlake.prediction import FacePrediction
from moodlake.reasons import Rejected, Status
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.sources.s3 import image_of, s3_client
from moodlake.scoring.tables.lineage import trace
from moodlake.scoring.tables.schema import IDENTITY, faces_in

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
            st.warning(why(whole["reason"]))
            st.caption(plain(whole["detail"] or ""))
        else:
            st.html(bars(told))
            st.markdown(uncertainty(told, whole["entropy"]))
    with right:
        show_stored(whole, faces_in(whole, tuple(told)) if told else ())
    for title, facts in item.sections().items():
        with st.expander(title.capitalize()):
            values = [plain(str(value)) for value in facts.values()]
            st.table({"": [plain(name) for name in facts], "value": values})


def show_stored(image: Mapping[str, Any], faces: Sequence[FacePrediction] = ()) -> None:
    """An image out of its bucket, if this installation allows it.

    Args:
        image: its bucket, key, etag and size.
        faces: to be drawn into it.
    """
    if not settings().show_images:
        st.caption(
            "Images of buckets are not shown here. A page that `moodlake app --images` starts "
            "reads them with its own credentials."
        )
        return
    try:
        shown = preview(image_of(s3_client(), image), faces, _SHORT_SIDE)
    except (Rejected, SourceError) as error:
        st.caption(f"There is no picture to show: {plain(str(error))}")
        return
    st.image(shown, width="stretch", alt=f"The image {image['key']}")
