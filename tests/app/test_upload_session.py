"""Upload sessions and their store, with a model in this process."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from app.session_store import SessionStore
from app.upload_session import UploadSession
from moodlake.inference.model import Model
from moodlake.prediction import FaceMode, Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.serving.client import ServerClient
from tests.app.test_upload_source import zipped
from tests.bundles import write_archive
from tests.images_made import jpeg


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_archive(tmp_path_factory.mktemp("model") / "tiny.mar"))


def finished(session: UploadSession) -> UploadSession:
    """Wait until scoring has ended or stopped."""
    assert session.wait(180)
    return session


def outcomes(session: UploadSession) -> dict[str, str]:
    return {item.name: item.row["reason"] or "scored" for item in session.items if item.row}


def test_files_and_zips_are_scored_and_bad_ones_reported(model: Model) -> None:
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "a.jpg", jpeg(1))
    session.add("2", "notes.png", b"only words")
    session.add(
        "3", "more.zip", zipped({"b.jpg": jpeg(2), "sub/c.jpg": jpeg(3), "cut.jpg": jpeg()[:80]})
    )
    session.add("4", "broken.zip", b"PK no more")
    assert finished(session).error is None
    assert outcomes(session) == {
        "a.jpg": "scored",
        "notes.png": Reason.NOT_AN_IMAGE,
        "more.zip/b.jpg": "scored",
        "more.zip/sub/c.jpg": "scored",
        "more.zip/cut.jpg": Reason.TRUNCATED,
    }
    assert "broken.zip" in (session.uploads["4"].error or "")
    assert [item.read() for item in session.items[2:4]] == [jpeg(2), jpeg(3)]


def test_an_upload_is_added_once(model: Model) -> None:
    session = UploadSession(lambda: model, FaceMode.NONE)
    for _ in range(3):
        session.add("1", "a.jpg", jpeg(1))
    assert len(finished(session).items) == 1


def test_a_removed_upload_is_deleted_and_the_others_are_scored(model: Model) -> None:
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "many.zip", zipped({f"{n}.jpg": jpeg(n) for n in range(300)}))
    session.add("2", "a.jpg", jpeg(1))
    session.remove("1")
    assert outcomes(finished(session)) == {"a.jpg": "scored"}
    assert session.size == len(jpeg(1))


def test_another_face_mode_scores_everything_again(model: Model) -> None:
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "a.jpg", jpeg(1))
    finished(session).set_faces(FaceMode.ALL)
    assert outcomes(finished(session)) == {"a.jpg": Reason.NO_FACE}


def test_scoring_resumes_after_the_server_was_unreachable(model: Model) -> None:
    def unreachable() -> ServerClient:
        return ServerClient("http://127.0.0.1:9", attempts=1)

    session = UploadSession(unreachable, FaceMode.NONE)
    session.add("1", "a.jpg", jpeg(1))
    assert "moodlake up" in (finished(session).error or "")
    assert outcomes(session) == {}
    session._connect = lambda: model
    session.resume()
    assert outcomes(finished(session)) == {"a.jpg": "scored"}


def test_scoring_resumes_after_an_unexpected_error(model: Model) -> None:
    def broken() -> Model:
        raise KeyError("unexpected")

    session = UploadSession(broken, FaceMode.NONE)
    session.add("1", "a.jpg", jpeg(1))
    assert "KeyError" in (finished(session).error or "")
    session._connect = lambda: model
    session.add("2", "b.jpg", jpeg(2))
    assert outcomes(finished(session)) == {"a.jpg": "scored", "b.jpg": "scored"}


def test_all_rows_come_from_one_model(model: Model, tmp_path: Path) -> None:
    newer = Model.load(write_archive(tmp_path / "newer.mar", version="8.0"))
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "a.jpg", jpeg(1))
    finished(session)._connect = lambda: newer
    session.add("2", "b.jpg", jpeg(2))
    rows = [item.row for item in finished(session).items]
    assert [row and row["model_version"] for row in rows] == ["8.0", "8.0"]


def test_a_session_is_limited_in_size(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.upload_session.MAX_SESSION_MB", 0.001)
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "large.jpg", bytes(1001))
    assert "large.jpg was not added" in (session.uploads["1"].error or "")
    assert not session.items


def test_sessions_are_found_by_id_and_expire(model: Model) -> None:
    store = SessionStore(lambda: model, kept_seconds=1.0)
    session = store.open(None)
    session.add("1", "a.jpg", jpeg(1))
    assert store.open(session.id) is session
    assert store.open("guessed") is not session
    deadline = time.monotonic() + 60
    while session.items and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session.items
    assert store.open(session.id) is not session


def test_an_image_too_large_to_score_is_not_read_for_its_preview(model: Model) -> None:
    session = UploadSession(lambda: model, FaceMode.NONE)
    session.add("1", "large.zip", zipped({"a.bmp": bytes(40_000_000)}, zipfile.ZIP_DEFLATED))
    assert outcomes(finished(session)) == {"large.zip/a.bmp": Reason.TOO_LARGE}
    with pytest.raises(Rejected, match="40000000 bytes"):
        session.items[0].read()


def test_files_are_scored_in_batches(model: Model) -> None:
    batches: list[int] = []

    class Counting:
        """The model; records the size of each batch."""

        identity, space, faces = model.identity, model.space, model.faces
        provenance = model.provenance

        def score(self, images: list[bytes], *, faces: FaceMode | None = None) -> list[Prediction]:
            batches.append(len(images))
            return model.score(images, faces=faces)

    session = UploadSession(Counting, FaceMode.NONE)
    with session._changed:  # so that scoring starts after the last file was added
        for number in range(32):
            session.add(str(number), f"{number}.jpg", jpeg(number))
    assert set(outcomes(finished(session)).values()) == {"scored"}
    assert batches == [16, 16]


def test_the_least_recent_session_is_deleted_when_all_are_too_large(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.session_store._MAX_TOTAL_MB", 0.003)
    store = SessionStore(lambda: model)
    first, second = store.open(None), store.open(None)
    for session in (first, second):
        session.add("1", "a.jpg", bytes(2000))
        finished(session)
    store.open(first.id)
    store.sweep()
    assert not second.items
    assert first.items
