"""The desks of all who use the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.upload_session import UploadSession
from moodlake.scoring.run.scorer import Engine

KEPT_MINUTES = 30
"""After the last look at it, a desk is forgotten."""
_MOST_MB = 2000
_SWEEP_SECONDS = 30.0


class SessionStore:
    """Each under a name that only its own page knows.

    Args:
        connect: see UploadSession.
        kept_seconds: how long a desk stays that nobody looks at.
    """

    def __init__(
        self, connect: Callable[[], Engine], kept_seconds: float = 60 * KEPT_MINUTES
    ) -> None:
        self._connect = connect
        self._kept = kept_seconds
        self._desks: dict[str, UploadSession] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True).start()

    def open(self, name: str | None) -> UploadSession:
        """The desk of that name, or else a new one."""
        with self._lock:
            desk = self._desks.get(name or "")
            if desk is None:
                desk = UploadSession(self._connect)
                self._desks[desk.name] = desk
            desk.last_seen = time.monotonic()
            return desk

    def touch(self, name: str) -> None:
        """Somebody looks at the desk of that name, if there is one."""
        with self._lock:
            if desk := self._desks.get(name):
                desk.last_seen = time.monotonic()

    def sweep(self) -> None:
        """Forget the desks that were left; and, where all hold too much, the first of these."""
        with self._lock:
            oldest = sorted(self._desks.values(), key=lambda desk: desk.last_seen)
            held = sum(desk.held for desk in oldest)
            for desk in oldest:
                left = time.monotonic() - desk.last_seen > self._kept
                if left or held > _MOST_MB * 1_000_000:
                    held -= desk.held
                    desk.clear()
                    del self._desks[desk.name]

    def _sweep_for_ever(self) -> None:
        while True:
            time.sleep(min(_SWEEP_SECONDS, self._kept))
            self.sweep()
