"""Try: images, ZIPs or the camera, and how each reads."""

from __future__ import annotations

import streamlit as st

from app.installation import desks
from app.one_image import show_image
from app.outcomes import download, show_list
from app.session_store import KEPT_MINUTES
from app.upload_session import Item, UploadSession
from app.uploads import MAX_FILES, MAX_UPLOAD_MB
from app.words import plain
from moodlake.inference.decoding import FORMATS, Limits
from moodlake.prediction import FaceMode

DESK = "desk"
"""The name of a desk, in the page's address and in its session."""
_SOON_SECONDS = 0.5
"""What ends by then needs no bar that tells how far it is."""
_LOOK_SECONDS = 0.2
_TOUCH_SECONDS = 300
_TOLD = 5
_MODES = {
    FaceMode.ALL: "every face",
    FaceMode.LARGEST: "the largest face",
    FaceMode.NONE: "the whole image",
}


def page() -> None:
    st.title("How does it read?")
    st.markdown("To people who look at it: a score says nothing of what anyone in it feels.")
    desk = _desk()
    _take_in(desk)
    # A default that changes would make another control of it, which forgets what was chosen.
    st.session_state.setdefault("faces", desk.faces)
    faces = st.segmented_control(
        "What is read", list(_MODES), format_func=_MODES.__getitem__, key="faces", required=True
    )
    desk.read_as(faces or desk.faces)
    _follow(desk)
    _tell_refused([upload.refused for upload in desk.uploads.values() if upload.refused])
    done = [item for item in desk.items if item.row is not None]
    if done:
        _results(desk, done)
    if desk.uploads and st.button("Clear all"):
        desk.clear()
        forget_widgets()
        st.session_state["round"] = st.session_state.get("round", 0) + 1
        st.rerun()
    _keep(desk.name)


def forget_widgets() -> None:
    """What is no longer in the uploader was not taken back: it was not drawn, or is another one."""
    st.session_state["sent"] = set()


@st.fragment(run_every=_TOUCH_SECONDS)
def _keep(name: str) -> None:
    """An open page looks at its desk."""
    desks().touch(name)


def _tell_refused(problems: list[str]) -> None:
    if problems:
        more = len(problems) - _TOLD
        lines = [plain(problem) for problem in problems[:_TOLD]]
        st.error("  \n".join([*lines, *([f"and {more} more"] if more > 0 else [])]))


def _desk() -> UploadSession:
    """That of the page's address, so that loading it anew loses nothing."""
    asked = st.query_params.get(DESK) or st.session_state.get(DESK)
    desk = desks().open(asked)
    if asked and desk.name != asked:
        st.info(f"What lay here was forgotten: the page was closed for {KEPT_MINUTES} minutes.")
        forget_widgets()
    st.query_params[DESK] = st.session_state[DESK] = desk.name
    return desk


def _take_in(desk: UploadSession) -> None:
    """What the browser sent goes onto the desk, what was taken back leaves it."""
    way = st.segmented_control("From", ["Files", "Camera"], default="Files", required=True)
    if way == "Camera":
        photo = st.camera_input("Take a picture")
        files = [photo] if photo else []
        forget_widgets()
    else:
        files = st.file_uploader(
            "Images or ZIPs",
            accept_multiple_files=True,
            max_upload_size=MAX_UPLOAD_MB,
            key=f"files-{st.session_state.get('round', 0)}",
        )
    st.caption(
        f"{', '.join(FORMATS)} up to {Limits().max_bytes // 2**20} MB, ZIPs of up to {MAX_FILES:,} "
        f"files and {MAX_UPLOAD_MB} MB. The page keeps no file: what you send stays in its memory "
        f"until you clear it, or have closed the page for {KEPT_MINUTES} minutes."
    )
    sent = {str(file.file_id): file for file in files}
    known: set[str] = st.session_state.setdefault("sent", set())
    for number in known - sent.keys():
        desk.remove(number)
    for number, file in sent.items():
        desk.add(number, file.name, file.getvalue())
    st.session_state["sent"] = set(sent)


def _follow(desk: UploadSession) -> None:
    """Tell how far it is, until all is scored."""
    if not desk.wait(_SOON_SECONDS):
        bar = st.progress(0.0, "Reading")
        while not desk.wait(_LOOK_SECONDS):
            items = desk.items
            done = sum(item.row is not None for item in items)
            bar.progress(done / max(1, len(items)), f"Read {done:,} of {len(items):,}")
        bar.empty()
    if desk.problem:
        st.error(plain(desk.problem))
        if st.button("Try again"):
            desk.go_on()
            st.rerun()


def _results(desk: UploadSession, done: list[Item]) -> None:
    assert desk.engine
    chosen = done[0] if len(done) == 1 else show_list(done, desk.engine.space.emotions)
    if chosen:
        show_image(chosen, desk)
    left, right, _ = st.columns([1, 1, 2])
    with left:
        download(desk, done, "csv")
    with right:
        download(desk, done, "parquet")
    model = desk.engine.identity
    st.caption(f"Read by {plain(model.name)} {plain(model.version)}, digest {model.digest[:12]}.")
