"""Wait for a condition instead of a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], failure: str, seconds: float = 20) -> None:
    """Return as soon as `condition()` is true; fail with the text `failure` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{failure} within {seconds:g} s"
        time.sleep(0.05)
