"""A limit on requests in flight: as many as a server answers without queueing them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_FEWEST = 1
# With fewer requests queued at the server the limit grows, with more it shrinks.
_SHORT_QUEUE = 2.0
_LONG_QUEUE = 4.0
_REMEMBERED = 200  # latencies; older ones do not describe a server that became slower


class Stopped(Exception):
    """No more requests may be sent."""


class ConcurrencyLimit:
    """An adaptive limit on requests in flight: the rule of TCP Vegas (Brakmo and Peterson, 1995).

    The current latency and the lowest one seen give the number of requests that queue at the
    server. While few do, the limit grows by one for each round of responses; while many do, it
    shrinks. A throttled request halves it. Threads may share a limit.

    Args:
        most: upper bound of the limit.
        start: initial limit.

    Attributes:
        limit: number of requests that may be in flight.
    """

    def __init__(self, most: int, start: int = _FEWEST) -> None:
        self._most = most
        self._limit = float(start)
        self._in_flight = 0
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._stopped = False
        self._throttled_at = float("-inf")
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wait until another request may be sent, and count it for the length of the block.

        Raises:
            Stopped: `stop` was called.
        """
        with self._free:
            self._free.wait_for(lambda: self._stopped or self._in_flight < self.limit)
            if self._stopped:
                raise Stopped
            self._in_flight += 1
        try:
            yield
        finally:
            with self._free:
                self._in_flight -= 1
                self._free.notify_all()

    def stop(self) -> None:
        """Send no more requests; waiting threads get Stopped."""
        with self._free:
            self._stopped = True
            self._free.notify_all()

    def answered(self, seconds: float, work: float = 1.0) -> None:
        """Adapt the limit to a response.

        Args:
            seconds: time from request to response.
            work: amount of work in the request, so that a large one does not count as a slow one.
        """
        with self._free:
            latency = max(seconds, 1e-6) / work
            self._latencies.append(latency)
            queued = self._limit * (1 - min(self._latencies) / latency)
            if queued < _SHORT_QUEUE:
                self._move(1 / self._limit)
            elif queued > _LONG_QUEUE:
                self._move(-1 / self._limit)

    def throttled(self, seconds: float) -> None:
        """Halve the limit after the server throttled a request that began `seconds` ago."""
        with self._free:
            now = time.monotonic()
            # Requests that were in flight together count once.
            if now - seconds > self._throttled_at:
                self._throttled_at = now
                self._move(-self._limit / 2)

    def _move(self, step: float) -> None:
        self._limit = min(max(self._limit + step, _FEWEST), self._most)
        self._free.notify_all()
