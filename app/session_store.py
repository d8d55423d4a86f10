"""The upload sessions of all users of the web app."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.upload_session import UploadSession
from moodlake.scoring.run.scorer import Engine

KEPT_MINUTES = 30
"""How long a session is kept after its browser tab was closed."""
_MAX_TOTAL_MB = 2000
"""Limit on the uploads of all sessions together."""
_SWEEP_SECONDS = 30.0


class SessionStore:
    """Upload sessions by id, which only the user's own browser knows.

    Args:
        connect: see UploadSession.
        kept_seconds: how long a session is kept after its last use.
    """

    def __init__(
        self, connect: Callable[[], Engine], kept_seconds: float = 60 * KEPT_MINUTES
    ) -> None:
        self._connect = connect
        self._kept_seconds = kept_seconds
        self._sessions: dict[str, UploadSession] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._sweep_forever, name="sweep", daemon=True).start()

    def open(self, session_id: str | None) -> UploadSession:
        """Return the session with this id, or a new one with another id."""
        with self._lock:
            session = self._sessions.get(session_id or "")
            if session is None:
                session = UploadSession(self._connect)
                self._sessions[session.id] = session
            session.last_used = time.monotonic()
            return session

    def touch(self, session_id: str) -> None:
        """Mark a session as in use; do nothing if it does not exist."""
        with self._lock:
            if session := self._sessions.get(session_id):
                session.last_used = time.monotonic()

    def sweep(self) -> None:
        """Delete expired sessions and, while all together are too large, the least recent ones."""
        with self._lock:
            oldest_first = sorted(self._sessions.values(), key=lambda session: session.last_used)
            total = sum(session.size for session in oldest_first)
            for session in oldest_first:
                expired = time.monotonic() - session.last_used > self._kept_seconds
                if expired or total > _MAX_TOTAL_MB * 1_000_000:
                    total -= session.size
                    session.clear()
                    del self._sessions[session.id]

    def _sweep_forever(self) -> None:
        while True:
            time.sleep(min(_SWEEP_SECONDS, self._kept_seconds))
            self.sweep()
