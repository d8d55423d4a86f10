"""One image: the picture, how it reads, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from app.upload_session import Item, UploadSession
from app.words import bars, plain, uncertainty
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
from moodlake.reasons import Reason, Rejected, Status
from moodlake.scoring.tables.schema import faces_in
from moodlake.serving.client import ServerClient, ServerError

_SHORT_SIDE = 640


def show_image(item: Item, desk: UploadSession) -> None:
    """Picture on the left, distribution on the right; below each other on a phone."""
    row, engine = item.row, desk.engine
    assert row
    assert engine
    st.subheader(plain(item.name))
    faces = faces_in(row, engine.space.emotions)
    left, right = st.columns(2)
    with right:  # first, for it is what people wait for
        _show_reading(item, row, faces, desk, engine.space)
    with left:
        _show_picture(item, faces)


def _show_reading(
    item: Item,
    row: Mapping[str, Any],
    faces: tuple[FacePrediction, ...],
    desk: UploadSession,
    space: LabelSpace,
) -> None:
    if row["status"] == Status.REJECTED:
        st.warning(Reason(row["reason"]).explanation)
        st.caption(plain(row["detail"] or ""))
        return
    if desk.engine and row["face_mode"] == FaceMode.NONE != desk.engine.faces:
        st.warning("This model learnt from faces: what it says of a whole image means little.")
    number, distribution = _choose_face(row, faces, space)
    _show_distribution(distribution, space)
    if number == 1:  # the server explains the largest face
        _show_heat(item, row, desk, space)


def _show_picture(item: Item, faces: tuple[FacePrediction, ...]) -> None:
    try:
        shown = preview(item.read(), faces, _SHORT_SIDE)
    except Rejected:
        st.caption("There is no picture to show.")
        return
    found = _found(len(faces), item)
    st.image(shown, width="stretch", alt=f"{item.name}, {found}", caption=found)
    if not faces:
        return
    st.download_button(
        "Picture with faces (PNG)",
        lambda: picture(item.read(), faces),
        file_name=f"{item.name.rsplit('/', 1)[-1]}.faces.png",
        mime="image/png",
        on_click="ignore",
    )


def _found(faces: int, item: Item) -> str:
    assert item.row
    if item.row["face_mode"] == FaceMode.NONE:
        return "faces were not looked for"
    told = f"{faces} {'face' if faces == 1 else 'faces'} found"
    return f"{told}, and no more are looked for" if faces == MOST_FACES else told


def _choose_face(
    row: Mapping[str, Any], faces: tuple[FacePrediction, ...], space: LabelSpace
) -> tuple[int, dict[str, float]]:
    """A face, from 1, and its distribution; that of the largest one is the image's own."""
    scored = [number for number, face in enumerate(faces, 1) if face.distribution]
    if len(scored) > 1:
        number = st.selectbox("Face (largest first)", scored)
        if distribution := faces[number - 1].distribution:
            return number, distribution
    return 1, {emotion: row[emotion] for emotion in space.emotions}


def _show_distribution(distribution: dict[str, float], space: LabelSpace) -> None:
    told = _choose_space(space)
    values, share = in_space(list(distribution.values()), space, told)
    over = dict(zip(told.emotions, values.tolist(), strict=True))
    st.html(bars(over))
    st.markdown(uncertainty(over, float(entropy(values))))
    if share < 1 - 1e-6:
        st.caption(
            f"{told.name} has names for {100 * float(np.round(share, 3)):.0f} % of what the model "
            "says; that is scaled to sum to 1."
        )


def _choose_space(space: LabelSpace) -> LabelSpace:
    """The model's own, or another one that shares emotions with it."""
    spaces = {space.name: space}
    for name in label_space_names():
        try:
            told = shared_space(space, label_space(name))
        except ValueError:
            continue
        spaces.setdefault(name, told)
    return spaces[st.selectbox("Emotions of", list(spaces))]


def _show_heat(item: Item, row: Mapping[str, Any], desk: UploadSession, space: LabelSpace) -> None:
    if not st.toggle("Where does the model see it?"):
        return
    emotions = list(space.emotions)
    emotion = st.selectbox("Heat map of", emotions, index=space.index(row["dominant"]))
    try:
        assert isinstance(desk.engine, ServerClient)
        heat = desk.engine.explain(item.read(), emotion, faces=desk.faces)
    except (ServerError, Rejected) as error:
        st.error(plain(str(error)))
        return
    st.image(
        heat,
        width=288,
        alt=f"Heat map: what speaks for {emotion} in what the model read",
        caption=f"What speaks for {emotion}, in what the model read (yellow: most)",
    )
