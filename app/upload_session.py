"""The uploads of one user, scored in the background.

A session is independent of the browser's connection: after a reload, the page finds its session by
the id in its URL. Sessions exist in memory only.
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

from app.upload_source import MAX_SESSION_MB, UPLOAD_BUCKET, UploadError, open_upload
from moodlake.errors import UserError
from moodlake.prediction import FaceMode
from moodlake.scoring.run.scorer import Engine, score_objects
from moodlake.scoring.sources.objects import Source, SourceError, SourceObject, check_size
from moodlake.serving.client import ServerError

log = logging.getLogger(__name__)


@dataclass
class Item:
    """One image to score: an uploaded file, or a file in an uploaded ZIP.

    Attributes:
        name: the name to display.
        object: identifies the image in its source.
        source: reads the image.
        row: the row of results; None until the image is scored or rejected.
    """

    name: str
    object: SourceObject
    source: Source = field(repr=False)
    row: dict[str, Any] | None = None

    def read(self) -> bytes:
        """Return the image's bytes; raise Rejected if they are damaged or too large."""
        check_size(self.object)
        return self.source.read(self.object)


@dataclass
class Upload:
    """One uploaded file; `error` says why it was rejected, if it was."""

    size: int
    items: list[Item]
    error: str | None = None


class UploadSession:
    """Uploads in the order of their arrival, and a thread that scores them.

    All rows come from one model: if the server switches models, everything is scored again.

    Args:
        connect: returns the model or a client of it; called whenever scoring starts.
        faces: the face mode, see `FaceMode`.

    Attributes:
        id: an unguessable identifier.
        uploads: accepted and rejected uploads, keyed by the browser's file id.
        engine: the model, or client, that scored last.
        error: why scoring stopped; None while it continues.
        last_used: when a page last showed the session, in time.monotonic seconds.
    """

    def __init__(self, connect: Callable[[], Engine], faces: FaceMode = FaceMode.ALL) -> None:
        self.id = secrets.token_urlsafe(16)
        self.uploads: dict[str, Upload] = {}
        self.faces = faces
        self.engine: Engine | None = None
        self.error: str | None = None
        self.last_used = time.monotonic()
        self._connect = connect
        self._changed = threading.Condition()
        self._generation = 0  # increases when rows being computed become obsolete
        self._thread: threading.Thread | None = None

    @property
    def items(self) -> list[Item]:
        """The images of all uploads."""
        return [item for upload in list(self.uploads.values()) for item in upload.items]

    @property
    def size(self) -> int:
        """Bytes of all uploads, which are held in memory."""
        return sum(upload.size for upload in list(self.uploads.values()))

    def add(self, upload_id: str, name: str, data: bytes) -> None:
        """Add an upload, unless it is already there; a rejected one is kept with its error."""
        if upload_id in self.uploads:
            return
        try:
            if self.size + len(data) > MAX_SESSION_MB * 1_000_000:
                raise UploadError(
                    f"{name} was not added: the uploads of a session are limited to "
                    f"{MAX_SESSION_MB} MB. Remove other files first"
                )
            source = open_upload(name, data)
        except (UploadError, SourceError) as error:
            upload = Upload(0, [], str(error))
        else:
            items = [Item(_display_name(item, name), item, source) for item in source.objects]
            upload = Upload(len(data), items)
        with self._changed:
            self.uploads[upload_id] = upload
            self.resume()

    def remove(self, upload_id: str) -> None:
        """Delete an upload and its rows."""
        with self._changed:
            self.uploads.pop(upload_id, None)
            self._generation += 1
            if not self.uploads:
                self.error = None

    def clear(self) -> None:
        """Delete all uploads and their rows."""
        with self._changed:
            self.uploads.clear()
            self.error = None
            self._generation += 1

    def set_faces(self, faces: FaceMode) -> None:
        """Choose which part of each image is scored; a change scores everything again."""
        if faces != self.faces:
            self.faces = faces
            self._discard_rows()
            self.resume()

    def resume(self) -> None:
        """Score the images that have no row yet, including after an error."""
        with self._changed:
            self.error = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until scoring has ended; return False if it is still running after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def _discard_rows(self) -> None:
        with self._changed:
            self._generation += 1
            for item in self.items:
                item.row = None

    def _work(self) -> None:
        while True:
            with self._changed:
                generation, items = self._generation, _without_rows(self.items)
                if not items or self.error:
                    self._thread = None
                    self._changed.notify_all()
                    return
            try:
                try:
                    self._score(items, generation)
                except ServerError:
                    # Retry once: the server may have restarted, or changed its default model.
                    self._score(_without_rows(items), generation)
            except UserError as error:
                self.error = str(error)
            except Exception as error:
                log.exception("scoring uploads failed")
                self.error = f"scoring failed ({type(error).__name__}); see the web app's log"

    def _score(self, items: list[Item], generation: int) -> None:
        engine = self._connect()
        if self.engine and engine.identity != self.engine.identity:
            self.engine = engine
            self._discard_rows()
            return
        self.engine = engine
        by_object = {id(item.object): item for item in items}
        source = Source([item.object for item in items], lambda found: by_object[id(found)].read())
        rows = score_objects(source, engine, run_id=f"page-{self.id[:6]}", faces=self.faces)
        with closing(rows):
            for item, row in zip(items, rows, strict=True):
                with self._changed:
                    if generation != self._generation:
                        return
                    item.row = row


def _without_rows(items: list[Item]) -> list[Item]:
    return [item for item in items if item.row is None]


def _display_name(item: SourceObject, upload: str) -> str:
    return item.key if item.bucket == UPLOAD_BUCKET else f"{upload}/{item.key}"
