"""How objects become rows, with an engine that can be made to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from moodlake.prediction import FaceMode, ModelIdentity, Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.run.scorer import score_objects
from moodlake.scoring.sources.objects import Source, SourceError, SourceObject
from tests.scoring.rows import MODEL, SPACE, scored


class Engine:
    """Scores whatever it gets, after a while; from one call on it fails."""

    identity: ModelIdentity = MODEL
    space = SPACE
    faces = FaceMode.NONE

    def __init__(self, fails_at: int = 10**9) -> None:
        self.provenance: dict[str, Any] = {}
        self.calls = 0
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def score(self, images: Sequence[bytes], *, faces: FaceMode | None = None) -> list[Prediction]:
        with self._lock:
            self.calls += 1
            call = self.calls
        time.sleep(0.02)
        if call >= self._fails_at:
            raise ConnectionError("the server is gone")
        return [scored(data.decode()) for data in images]


def source(count: int, broken: str | None = None, error: Exception | None = None) -> Source:
    def read(item: SourceObject) -> bytes:
        if item.key == broken:
            assert error
            raise error
        return item.key.encode()

    items = [
        SourceObject("bucket", f"{number:04}", "e", 4, "2026-01-02T03:04:05+00:00")
        for number in range(count)
    ]
    return Source(items, read, count)


def rows(made: Source, engine: Engine) -> list[dict[str, Any]]:
    return list(score_objects(made, engine, run_id="run", batch_size=4))


def test_rows_come_in_the_order_of_the_objects() -> None:
    assert [row["key"] for row in rows(source(150), Engine())] == [f"{n:04}" for n in range(150)]


def test_an_object_that_cannot_be_read_hurts_no_other() -> None:
    made = source(20, "0007", Rejected(Reason.VANISHED, "gone"))
    reasons = {row["key"]: row["reason"] for row in rows(made, Engine())}
    assert reasons == {f"{n:04}": "vanished" if n == 7 else None for n in range(20)}


def test_a_source_that_fails_ends_it() -> None:
    with pytest.raises(SourceError, match="S3 is gone"):
        rows(source(100, "0050", SourceError("S3 is gone")), Engine())


def test_a_server_that_fails_is_not_asked_by_those_that_wait() -> None:
    engine = Engine(fails_at=3)
    with pytest.raises(ConnectionError, match="gone"):
        rows(source(400), engine)
    assert engine.calls < 12
    calls = engine.calls
    time.sleep(0.2)
    assert engine.calls == calls


def test_whoever_wants_no_more_rows_is_not_kept_waiting() -> None:
    engine = Engine()
    made = score_objects(source(4000), engine, run_id="run", batch_size=4)
    next(made)
    made.close()
    assert engine.calls < 30
