"""Measure the time of the steps of scoring."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@contextmanager
def _measured(
    report: Callable[[float], None], clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Call `report` with the seconds that the block took, also if it failed."""
    started = clock()
    try:
        yield
    finally:
        report(clock() - started)


@dataclass
class Timings:
    """Seconds spent on the images of one call, by step."""

    decode: float = 0.0
    detect: float = 0.0
    infer: float = 0.0
    explain: float = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to a step."""
        with _measured(lambda taken: setattr(self, name, getattr(self, name) + taken)):
            yield

    def to_dict(self) -> dict[str, float]:
        """Return the milliseconds of each step."""
        return {
            "decode_ms": round(self.decode * 1e3, 3),
            "detect_ms": round(self.detect * 1e3, 3),
            "infer_ms": round(self.infer * 1e3, 3),
            "explain_ms": round(self.explain * 1e3, 3),
        }


class Stopwatch:
    """The sum of seconds by step. Safe to share between threads."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._adding = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to a step."""
        with _measured(lambda taken: self.add({name: taken})):
            yield

    @contextmanager
    def cores(self, name: str) -> Iterator[None]:
        """Add the processor time of this process during the block to a step."""
        with _measured(lambda taken: self.add({name: taken}), time.process_time):
            yield

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by step."""
        with self._adding:
            self._seconds.update(seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds so far, by step, rounded to milliseconds."""
        with self._adding:
            return {name: round(value, 3) for name, value in self._seconds.items()}
