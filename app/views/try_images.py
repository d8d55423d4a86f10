"""The page Try: upload images or ZIPs, or take a photo, and see how they score."""

from __future__ import annotations

import streamlit as st

from app.backend import upload_sessions
from app.image_view import show_upload
from app.session_store import KEPT_MINUTES
from app.upload_results import download_button, select_item
from app.upload_session import Item, UploadSession
from app.upload_source import MAX_FILES, MAX_UPLOAD_MB
from app.wording import escape_markdown
from moodlake.inference.decoding import FORMATS, Limits
from moodlake.prediction import FaceMode

SESSION_PARAMETER = "session"
"""URL parameter, and key of Streamlit's session state, for the id of the upload session."""
_QUICK_SECONDS = 0.5
"""How long to wait before showing a progress bar."""
_PROGRESS_SECONDS = 0.2
_TOUCH_SECONDS = 300
_MAX_ERRORS = 5
_MODES = {
    FaceMode.ALL: "every face",
    FaceMode.LARGEST: "the largest face",
    FaceMode.NONE: "the whole image",
}


def page() -> None:
    st.title("Which emotion do people see?")
    st.markdown(
        "Upload images to predict how people would read them. A score does not measure what "
        "anyone in the image feels."
    )
    session = _open_session()
    _read_uploads(session)
    # A default that changes would create another control, which forgets the selection.
    st.session_state.setdefault("faces", session.faces)
    faces = st.segmented_control(
        "Score", list(_MODES), format_func=_MODES.__getitem__, key="faces", required=True
    )
    session.set_faces(faces or session.faces)
    _show_progress(session)
    _show_errors([upload.error for upload in session.uploads.values() if upload.error])
    done = [item for item in session.items if item.row is not None]
    if done:
        _show_results(session, done)
    if session.uploads and st.button("Clear all"):
        session.clear()
        forget_widgets()
        st.session_state["round"] = st.session_state.get("round", 0) + 1
        st.rerun()
    _keep_alive(session.id)


def forget_widgets() -> None:
    """Forget the files of the uploader, so that an empty uploader does not delete the uploads."""
    st.session_state["sent"] = set()


@st.fragment(run_every=_TOUCH_SECONDS)
def _keep_alive(session_id: str) -> None:
    """Keep the session while its page is open."""
    upload_sessions().touch(session_id)


def _show_errors(messages: list[str]) -> None:
    if messages:
        more = len(messages) - _MAX_ERRORS
        lines = [escape_markdown(message) for message in messages[:_MAX_ERRORS]]
        st.error("  \n".join([*lines, *([f"and {more} more"] if more > 0 else [])]))


def _open_session() -> UploadSession:
    """Return the session of the page's URL, so that reloading the page loses nothing."""
    requested = st.query_params.get(SESSION_PARAMETER) or st.session_state.get(SESSION_PARAMETER)
    session = upload_sessions().open(requested)
    if requested and session.id != requested:
        st.info(
            "Your uploads have expired: they are deleted "
            f"{KEPT_MINUTES} minutes after the page is closed."
        )
        forget_widgets()
    st.query_params[SESSION_PARAMETER] = st.session_state[SESSION_PARAMETER] = session.id
    return session


def _read_uploads(session: UploadSession) -> None:
    """Add the files that the browser sent to the session; delete those that the user removed."""
    origin = st.segmented_control("Source", ["Files", "Camera"], default="Files", required=True)
    if origin == "Camera":
        photo = st.camera_input("Take a photo")
        files = [photo] if photo else []
        forget_widgets()
    else:
        files = st.file_uploader(
            "Images or ZIP files",
            accept_multiple_files=True,
            max_upload_size=MAX_UPLOAD_MB,
            key=f"files-{st.session_state.get('round', 0)}",
        )
    st.caption(
        f"{', '.join(FORMATS)} up to {Limits().max_bytes // 2**20} MB; ZIP files up to "
        f"{MAX_UPLOAD_MB} MB and {MAX_FILES:,} files. Uploads stay in memory. They are deleted "
        f"when you clear them, or {KEPT_MINUTES} minutes after you close the page."
    )
    sent = {str(file.file_id): file for file in files}
    previous: set[str] = st.session_state.setdefault("sent", set())
    for file_id in previous - sent.keys():
        session.remove(file_id)
    for file_id, file in sent.items():
        session.add(file_id, file.name, file.getvalue())
    st.session_state["sent"] = set(sent)


def _show_progress(session: UploadSession) -> None:
    """Show a progress bar until scoring has ended, or the error that stopped it."""
    if not session.wait(_QUICK_SECONDS):
        bar = st.progress(0.0, "Scoring")
        while not session.wait(_PROGRESS_SECONDS):
            items = session.items
            done = sum(item.row is not None for item in items)
            bar.progress(done / max(1, len(items)), f"Scored {done:,} of {len(items):,}")
        bar.empty()
    if session.error:
        st.error(escape_markdown(session.error))
        if st.button("Retry"):
            session.resume()
            st.rerun()


def _show_results(session: UploadSession, done: list[Item]) -> None:
    assert session.engine
    selected = done[0] if len(done) == 1 else select_item(done, session.engine.space.emotions)
    if selected:
        show_upload(selected, session)
    left, right, _ = st.columns([1, 1, 2])
    with left:
        download_button(session, done, "csv")
    with right:
        download_button(session, done, "parquet")
    model = session.engine.identity
    name = escape_markdown(f"{model.name} {model.version}")
    st.caption(f"Scored by {name}, digest {model.digest[:12]}.")
