"""How long the steps of scoring take."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


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
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)

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
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - started})

    @contextmanager
    def cores(self, name: str) -> Iterator[None]:
        """Add the time that this process's threads are at work while the block runs."""
        started = time.process_time()
        try:
            yield
        finally:
            self.add({name: time.process_time() - started})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what was measured elsewhere."""
        with self._adding:
            self._seconds.update(seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """So far, by step."""
        with self._adding:
            return {name: round(value, 3) for name, value in self._seconds.items()}
