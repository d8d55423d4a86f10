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
from tests.app.test_uploads import zipped
from tests.bundles import write_archive
from tests.images_made import jpeg


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_archive(tmp_path_factory.mktemp("model") / "tiny.mar"))


def settled(desk: UploadSession) -> UploadSession:
    deadline = time.monotonic() + 60
    while not desk.wait(1):
        assert time.monotonic() < deadline
    return desk


def outcomes(desk: UploadSession) -> dict[str, str]:
    return {item.name: item.row["reason"] or "scored" for item in desk.items if item.row}


def test_files_and_zips_are_scored_and_the_bad_ones_told(model: Model) -> None:
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "a.jpg", jpeg(1))
    desk.add("2", "notes.png", b"only words")
    desk.add(
        "3", "more.zip", zipped({"b.jpg": jpeg(2), "sub/c.jpg": jpeg(3), "cut.jpg": jpeg()[:80]})
    )
    desk.add("4", "broken.zip", b"PK no more")
    assert settled(desk).problem is None
    assert outcomes(desk) == {
        "a.jpg": "scored",
        "notes.png": Reason.NOT_AN_IMAGE,
        "more.zip/b.jpg": "scored",
        "more.zip/sub/c.jpg": "scored",
        "more.zip/cut.jpg": Reason.TRUNCATED,
    }
    assert "cannot be read as a ZIP" in (desk.uploads["4"].refused or "")
    assert [item.read() for item in desk.items[2:4]] == [jpeg(2), jpeg(3)]


def test_the_same_upload_is_taken_once(model: Model) -> None:
    desk = UploadSession(lambda: model, FaceMode.NONE)
    for _ in range(3):
        desk.add("1", "a.jpg", jpeg(1))
    assert len(settled(desk).items) == 1


def test_what_is_taken_back_is_forgotten_and_the_rest_scored(model: Model) -> None:
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "many.zip", zipped({f"{n}.jpg": jpeg(n) for n in range(300)}))
    desk.add("2", "a.jpg", jpeg(1))
    desk.remove("1")
    assert outcomes(settled(desk)) == {"a.jpg": "scored"}
    assert desk.held == len(jpeg(1))


def test_another_way_of_reading_scores_all_anew(model: Model) -> None:
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "a.jpg", jpeg(1))
    settled(desk).read_as(FaceMode.ALL)
    assert outcomes(settled(desk)) == {"a.jpg": Reason.NO_FACE}


def test_a_server_that_is_away_is_told_and_what_is_left_scored_later(model: Model) -> None:
    def away() -> ServerClient:
        return ServerClient("http://127.0.0.1:9", attempts=1)

    desk = UploadSession(away, FaceMode.NONE)
    desk.add("1", "a.jpg", jpeg(1))
    assert "moodlake up" in (settled(desk).problem or "")
    assert outcomes(desk) == {}
    desk._connect = lambda: model
    desk.go_on()
    assert outcomes(settled(desk)) == {"a.jpg": "scored"}


def test_an_error_nobody_thought_of_stops_nothing_else(model: Model) -> None:
    def broken() -> Model:
        raise KeyError("unheard of")

    desk = UploadSession(broken, FaceMode.NONE)
    desk.add("1", "a.jpg", jpeg(1))
    assert "KeyError" in (settled(desk).problem or "")
    desk._connect = lambda: model
    desk.add("2", "b.jpg", jpeg(2))
    assert outcomes(settled(desk)) == {"a.jpg": "scored", "b.jpg": "scored"}


def test_rows_are_never_of_two_models(model: Model, tmp_path: Path) -> None:
    newer = Model.load(write_archive(tmp_path / "newer.mar", version="8.0"))
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "a.jpg", jpeg(1))
    settled(desk)._connect = lambda: newer
    desk.add("2", "b.jpg", jpeg(2))
    rows = [item.row for item in settled(desk).items]
    assert [row and row["model_version"] for row in rows] == ["8.0", "8.0"]


def test_a_desk_holds_so_much_and_says_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.upload_session.MAX_HELD_MB", 0.001)
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "large.jpg", bytes(1001))
    assert "large.jpg has no place" in (desk.uploads["1"].refused or "")
    assert not desk.items


def test_desks_are_found_by_name_and_forgotten_when_left(model: Model) -> None:
    desks = SessionStore(lambda: model, kept_seconds=1.0)
    desk = desks.open(None)
    desk.add("1", "a.jpg", jpeg(1))
    assert desks.open(desk.name) is desk
    assert desks.open("guessed") is not desk
    deadline = time.monotonic() + 20
    while desk.items and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not desk.items
    assert desks.open(desk.name) is not desk


def test_what_is_too_large_to_score_is_not_read_to_be_shown(model: Model) -> None:
    desk = UploadSession(lambda: model, FaceMode.NONE)
    desk.add("1", "large.zip", zipped({"a.bmp": bytes(40_000_000)}, zipfile.ZIP_DEFLATED))
    assert outcomes(settled(desk)) == {"large.zip/a.bmp": Reason.TOO_LARGE}
    with pytest.raises(Rejected, match="40000000 bytes"):
        desk.items[0].read()


def test_many_files_are_asked_for_together(model: Model) -> None:
    asked: list[int] = []

    class Counting:
        """The model, and how many images it is asked for at once."""

        identity, space, faces = model.identity, model.space, model.faces
        provenance = model.provenance

        def score(self, images: list[bytes], *, faces: FaceMode | None = None) -> list[Prediction]:
            asked.append(len(images))
            return model.score(images, faces=faces)

    desk = UploadSession(Counting, FaceMode.NONE)
    with desk._changed:  # so that none is scored before the last has come
        for number in range(32):
            desk.add(str(number), f"{number}.jpg", jpeg(number))
    assert set(outcomes(settled(desk)).values()) == {"scored"}
    assert asked == [16, 16]


def test_when_all_hold_too_much_the_longest_left_goes(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.session_store._MOST_MB", 0.003)
    desks = SessionStore(lambda: model)
    first, second = desks.open(None), desks.open(None)
    for desk in (first, second):
        desk.add("1", "a.jpg", bytes(2000))
        settled(desk)
    desks.open(first.name)
    desks.sweep()
    assert not second.items
    assert first.items
