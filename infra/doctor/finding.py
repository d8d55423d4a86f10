"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """It works; look at it all the same."""
    BAD = "bad"
    ABSENT = "absent"
    """This installation has none, or it cannot be asked from here."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        state: how it is.
        detail: in words, with what.
        remedy: what to do; empty where there is nothing to do.
    """

    state: State
    detail: str
    remedy: str = ""
