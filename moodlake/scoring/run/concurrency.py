"""How many requests to have in flight: as many as a server answers without queueing them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_FEWEST = 1
# Requests that wait at the server: with fewer, more are sent; with more, fewer.
_SHORT_QUEUE = 2.0
_LONG_QUEUE = 4.0
_REMEMBERED = 200  # answers, so that a server that became slower is not measured by what it was


class Stopped(Exception):
    """No more requests are to be sent."""


class ConcurrencyLimit:
    """A limit that adapts: TCP Vegas' rule (Brakmo and Peterson, 1995) on requests.

    From the latency now and the least one seen follows how many of the requests in flight only
    wait. While these are few, the limit grows by one for each round of answers; when they
    are many, it shrinks. A refusal halves it. Safe to share between threads.

    Attributes:
        limit: how many requests may be in flight now.
    """

    def __init__(self, most: int, start: int = _FEWEST) -> None:
        self._most = most
        self._limit = float(start)
        self._flying = 0
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._stopped = False
        self._refused_at = float("-inf")
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wait until one more request may be sent, and count it while the block runs.

        Raises:
            Stopped: `stop` was called.
        """
        with self._free:
            self._free.wait_for(lambda: self._stopped or self._flying < self.limit)
            if self._stopped:
                raise Stopped
            self._flying += 1
        try:
            yield
        finally:
            with self._free:
                self._flying -= 1
                self._free.notify_all()

    def stop(self) -> None:
        """Send no more requests: whoever waits for its turn is let go."""
        with self._free:
            self._stopped = True
            self._free.notify_all()

    def answered(self, seconds: float, work: float = 1.0) -> None:
        """Learn from an answer.

        Args:
            seconds: that it took.
            work: how much it was, so that large requests do not pass for slow ones.
        """
        with self._free:
            latency = max(seconds, 1e-6) / work
            self._latencies.append(latency)
            queued = self._limit * (1 - min(self._latencies) / latency)
            if queued < _SHORT_QUEUE:
                self._move(1 / self._limit)
            elif queued > _LONG_QUEUE:
                self._move(-1 / self._limit)

    def refused(self, seconds: float) -> None:
        """The server was asked too much by a request that began so many seconds ago."""
        with self._free:
            now = time.monotonic()
            # Those that were in flight together count as one refusal.
            if now - seconds > self._refused_at:
                self._refused_at = now
                self._move(-self._limit / 2)

    def _move(self, step: float) -> None:
        self._limit = min(max(self._limit + step, _FEWEST), self._most)
        self._free.notify_all()
