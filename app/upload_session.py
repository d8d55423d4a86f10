"""What one person laid on the page, scored in the background.

It belongs to no connection of a browser: a page that is loaded again finds all of it, by the name
in its address. It is in memory only.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from app.uploads import MAX_HELD_MB, UPLOADED, UploadError, source_of
from moodlake.errors import UserError
from moodlake.prediction import FaceMode
from moodlake.scoring.run.scorer import Engine, score_objects
from moodlake.scoring.sources.objects import Source, SourceError, SourceObject, check_size
from moodlake.serving.client import ServerError

log = logging.getLogger(__name__)


@dataclass
class Item:
    """A file, or one of a ZIP.

    Attributes:
        name: for people.
        object: as a source names it.
        source: reads it.
        row: of results, once it is scored or rejected.
    """

    name: str
    object: SourceObject
    source: Source = field(repr=False)
    row: dict[str, Any] | None = None

    def read(self) -> bytes:
        """Its content; raises Rejected where it is damaged or too large."""
        check_size(self.object)
        return self.source.read(self.object)


@dataclass
class Upload:
    """One file as a browser sent it; `refused` says why the page does not take it."""

    size: int
    items: list[Item]
    refused: str | None = None


class UploadSession:
    """Uploads in the order in which they came, and a thread that scores them.

    All its rows are of one model: if another one answers later, all is scored again.

    Args:
        connect: gives what predicts now; asked whenever scoring begins.
        faces: which part of an image is read.

    Attributes:
        name: its own, that nobody guesses.
        uploads: by their number.
        engine: that scored last.
        problem: why scoring stopped; None while it goes on.
        last_seen: when a page showed it, in time.monotonic seconds.
    """

    def __init__(self, connect: Callable[[], Engine], faces: FaceMode = FaceMode.ALL) -> None:
        self.name = secrets.token_urlsafe(16)
        self.uploads: dict[str, Upload] = {}
        self.faces = faces
        self.engine: Engine | None = None
        self.problem: str | None = None
        self.last_seen = time.monotonic()
        self._connect = connect
        self._changed = threading.Condition()
        self._turn = 0  # counted up when rows that are on their way are no longer wanted
        self._thread: threading.Thread | None = None

    @property
    def items(self) -> list[Item]:
        """Of all uploads."""
        return [item for upload in list(self.uploads.values()) for item in upload.items]

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return sum(upload.size for upload in list(self.uploads.values()))

    def add(self, number: str, name: str, data: bytes) -> None:
        """Take an upload, once; what cannot be taken is kept as refused."""
        if number in self.uploads:
            return
        try:
            if self.held + len(data) > MAX_HELD_MB * 1_000_000:
                raise UploadError(
                    f"{name} has no place: the page holds {MAX_HELD_MB} MB. Clear it first"
                )
            source = source_of(name, data)
        except (UploadError, SourceError) as error:
            upload = Upload(0, [], str(error))
        else:
            items = [Item(_name(item, name), item, source) for item in source.objects]
            upload = Upload(len(data), items)
        with self._changed:
            self.uploads[number] = upload
            self.go_on()

    def remove(self, number: str) -> None:
        """Forget an upload."""
        with self._changed:
            self.uploads.pop(number, None)
            self._turn += 1
            if not self.uploads:
                self.problem = None

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self.uploads.clear()
            self.problem = None
            self._turn += 1

    def read_as(self, faces: FaceMode) -> None:
        """Score all anew, in another way."""
        if faces != self.faces:
            self.faces = faces
            self._forget_rows()
            self.go_on()

    def go_on(self) -> None:
        """Score what is not scored yet; also after a problem."""
        with self._changed:
            self.problem = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether all is done, or cannot be; waits at most so long for it."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def _forget_rows(self) -> None:
        with self._changed:
            self._turn += 1
            for item in self.items:
                item.row = None

    def _work(self) -> None:
        while True:
            with self._changed:
                turn, items = self._turn, self._next()
                if not items or self.problem:
                    self._thread = None
                    self._changed.notify_all()
                    return
            try:
                try:
                    self._score(items, turn)
                except ServerError:
                    # It may have been started anew meanwhile, or serve another model now.
                    self._score([item for item in items if item.row is None], turn)
            except UserError as error:
                self.problem = str(error)
            except Exception as error:
                log.exception("scoring what was uploaded failed")
                self.problem = f"scoring failed ({type(error).__name__}); the page's log has more"

    def _next(self) -> list[Item]:
        """What is not scored yet."""
        return [item for item in self.items if item.row is None]

    def _score(self, items: list[Item], turn: int) -> None:
        engine = self._connect()
        if self.engine and engine.identity != self.engine.identity:
            self.engine = engine
            self._forget_rows()
            return
        self.engine = engine
        by_object = {id(item.object): item for item in items}
        source = Source([item.object for item in items], lambda found: by_object[id(found)].read())
        rows = score_objects(source, engine, run_id=f"page-{self.name[:6]}", faces=self.faces)
        with closing(rows):
            for item, row in zip(items, rows, strict=True):
                with self._changed:
                    if turn != self._turn:
                        return
                    item.row = row


def _name(item: SourceObject, upload: str) -> str:
    return item.key if item.bucket == UPLOADED else f"{upload}/{item.key}"
