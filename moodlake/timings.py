"""How long the steps of scoring take."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@contextmanager
def _measured(
    tell: Callable[[float], None], clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Tell the seconds that the block took, also if it failed."""
    started = clock()
    try:
        yield
    finally:
        tell(clock() - started)


@dataclass
class Timings:
    """Seconds spent on the images of a call: added up as they pass through the steps."""

    decode: float = 0.0
    detect: float = 0.0
    infer: float = 0.0
    explain: float = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what is done inside to a step."""
        with _measured(lambda taken: setattr(self, name, getattr(self, name) + taken)):
            yield

    def to_dict(self) -> dict[str, float]:
        """The steps in milliseconds."""
        return {
            "decode_ms": round(self.decode * 1e3, 3),
            "detect_ms": round(self.detect * 1e3, 3),
            "infer_ms": round(self.infer * 1e3, 3),
            "explain_ms": round(self.explain * 1e3, 3),
        }


class Stopwatch:
    """Adds up seconds by step; safe to share between threads."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._adding = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        with _measured(lambda taken: self.add({name: taken})):
            yield

    @contextmanager
    def cores(self, name: str) -> Iterator[None]:
        """Add the time that this process's threads are at work while the block runs."""
        with _measured(lambda taken: self.add({name: taken}), time.process_time):
            yield

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what was measured elsewhere."""
        with self._adding:
            self._seconds.update(seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """So far, by step."""
        with self._adding:
            return {name: round(value, 3) for name, value in self._seconds.items()}
