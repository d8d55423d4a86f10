"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Outcome of a check."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """It works, but deserves a look."""
    BAD = "bad"
    ABSENT = "absent"
    """Not part of this installation, or not reachable from here."""


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        state: outcome.
        detail: message with the values found.
        remedy: what to do; empty if nothing.
    """

    state: State
    detail: str
    remedy: str = ""
