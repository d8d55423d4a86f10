"""How long the steps of scoring take."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
