"""One image with its distribution: an upload, or a row of the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.backend import settings
from app.upload_session import Item, UploadSession
from app.wording import bars, describe, escape_markdown, explain_reason
from moodlake.emotions import (
    LabelSpace,
    entropy,
    in_space,
    label_space,
    label_space_names,
    shared_space,
)
from moodlake.inference.blazeface import MOST_FACES
from moodlake.inference.drawing import picture, preview
from moodlake.prediction import FaceMode, FacePrediction
from moodlake.reasons import Rejected, Status
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.sources.s3 import image_of, s3_client
from moodlake.scoring.tables.lineage import trace
from moodlake.scoring.tables.schema import IDENTITY, faces_in
from moodlake.serving.client import ServerClient, ServerError

_UPLOAD_SHORT_SIDE = 640
_STORED_SHORT_SIDE = 480


def show_upload(item: Item, session: UploadSession) -> None:
    """Show an upload on the left and its distribution on the right; stacked on a phone."""
    row, engine = item.row, session.engine
    assert row
    assert engine
    st.subheader(escape_markdown(item.name))
    faces = faces_in(row, engine.space.emotions)
    left, right = st.columns(2)
    with right:  # the distribution first: users wait for it
        _show_scores(item, row, faces, session, engine.space)
    with left:
        _show_upload_preview(item, faces)


def show_row(row: dict[str, Any], emotions: tuple[str, ...]) -> None:
    """Show a row of the results table with its image and its lineage.

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
        st.info("This row has been replaced. Reload the page.")
        return
    item, whole = same[0], same[0].row
    st.subheader(escape_markdown(row["key"]))
    if not item.current:
        st.caption("The table has a row for a newer version of this object.")
    left, right = st.columns(2)
    with left:
        distribution = {name: whole[name] for name in emotions if whole.get(name) is not None}
        if whole["status"] == Status.REJECTED:
            _show_rejection(whole)
        else:
            st.html(bars(distribution))
            st.markdown(describe(distribution, whole["entropy"]))
    with right:
        show_bucket_image(whole, faces_in(whole, tuple(distribution)) if distribution else ())
    for title, facts in item.sections().items():
        with st.expander(title.capitalize()):
            values = [escape_markdown(str(value)) for value in facts.values()]
            st.table({"": [escape_markdown(name) for name in facts], "value": values})


def show_bucket_image(image: Mapping[str, Any], faces: Sequence[FacePrediction] = ()) -> None:
    """Show an image from its bucket, if the web app was started with --images.

    Args:
        image: its bucket, key, etag and size.
        faces: to draw into the image.
    """
    if not settings().show_images:
        st.caption(
            "Images in buckets are not shown. Start the web app with `moodlake app --images` to "
            "read them with its own credentials."
        )
        return
    try:
        shown = preview(image_of(s3_client(), image), faces, _STORED_SHORT_SIDE)
    except (Rejected, SourceError) as error:
        st.caption(f"No preview: {escape_markdown(str(error))}")
        return
    st.image(shown, width="stretch", alt=f"The image {image['key']}")


def _show_rejection(row: Mapping[str, Any]) -> None:
    st.warning(explain_reason(row["reason"]))
    st.caption(escape_markdown(row["detail"] or ""))


def _show_scores(
    item: Item,
    row: Mapping[str, Any],
    faces: tuple[FacePrediction, ...],
    session: UploadSession,
    space: LabelSpace,
) -> None:
    if row["status"] == Status.REJECTED:
        _show_rejection(row)
        return
    if session.engine and row["face_mode"] == FaceMode.NONE != session.engine.faces:
        st.warning("This model was trained on faces; its scores for whole images mean little.")
    number, distribution = _select_face(row, faces, space)
    _show_distribution(distribution, space)
    if number == 1:  # the server explains the largest face
        _show_heat_map(item, row, session, space)


def _show_upload_preview(item: Item, faces: tuple[FacePrediction, ...]) -> None:
    try:
        shown = preview(item.read(), faces, _UPLOAD_SHORT_SIDE)
    except Rejected:
        st.caption("No preview is available.")
        return
    found = _faces_found(len(faces), item)
    st.image(shown, width="stretch", alt=f"{item.name}, {found}", caption=found)
    if not faces:
        return
    st.download_button(
        "Image with faces (PNG)",
        lambda: picture(item.read(), faces),
        file_name=f"{item.name.rsplit('/', 1)[-1]}.faces.png",
        mime="image/png",
        on_click="ignore",
    )


def _faces_found(count: int, item: Item) -> str:
    assert item.row
    if item.row["face_mode"] == FaceMode.NONE:
        return "scored as a whole, without face detection"
    found = f"{count} {'face' if count == 1 else 'faces'} found"
    return f"{found} (the maximum)" if count == MOST_FACES else found


def _select_face(
    row: Mapping[str, Any], faces: tuple[FacePrediction, ...], space: LabelSpace
) -> tuple[int, dict[str, float]]:
    """Return the number of the selected face, from 1, and its distribution.

    The largest face's distribution is the image's own.
    """
    scored = [number for number, face in enumerate(faces, 1) if face.distribution]
    if len(scored) > 1:
        number = st.selectbox("Face (largest first)", scored)
        if distribution := faces[number - 1].distribution:
            return number, distribution
    return 1, {emotion: row[emotion] for emotion in space.emotions}


def _show_distribution(distribution: dict[str, float], space: LabelSpace) -> None:
    target = _select_space(space)
    values, share = in_space(list(distribution.values()), space, target)
    shown = dict(zip(target.emotions, values.tolist(), strict=True))
    st.html(bars(shown))
    st.markdown(describe(shown, float(entropy(values))))
    if share < 1 - 1e-6:
        st.caption(
            f"{target.name} covers {100 * float(np.round(share, 3)):.0f} % of the model's "
            "probability; the values shown are rescaled to sum to 1."
        )


def _select_space(space: LabelSpace) -> LabelSpace:
    """Let the user select the model's own label space, or one that shares emotions with it."""
    spaces = {space.name: space}
    for name in label_space_names():
        try:
            shared = shared_space(space, label_space(name))
        except ValueError:
            continue
        spaces.setdefault(name, shared)
    return spaces[st.selectbox("Label space", list(spaces))]


def _show_heat_map(
    item: Item, row: Mapping[str, Any], session: UploadSession, space: LabelSpace
) -> None:
    if not st.toggle("Show which regions the model uses"):
        return
    emotions = list(space.emotions)
    emotion = st.selectbox("Heat map of", emotions, index=space.index(row["dominant"]))
    try:
        assert isinstance(session.engine, ServerClient)
        heat = session.engine.explain(item.read(), emotion, faces=session.faces)
    except (ServerError, Rejected) as error:
        st.error(escape_markdown(str(error)))
        return
    st.image(
        heat,
        width=288,
        alt=f"Heat map: evidence for {emotion} in the model's input",
        caption=f"Evidence for {emotion} in the model's input (yellow: strongest)",
    )
