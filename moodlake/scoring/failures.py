"""Failures of disks and stores in words, whichever library ran into them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError

from moodlake.scoring.sources.objects import SourceError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def translate_errors(step: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same step, in which errors of the system and of Delta's library are SourceErrors."""

    @functools.wraps(step)
    def told(*args: Given.args, **options: Given.kwargs) -> Result:
        try:
            return step(*args, **options)
        except CommitFailedError as error:
            raise SourceError(
                f"other writers won the race for the table each time ({plain(error)}); nothing "
                "was damaged: run it again"
            ) from error
        except (OSError, DeltaError) as error:
            raise SourceError(
                f"a disk or store failed ({plain(error)}); nothing was damaged: check "
                "MOODLAKE_RESULTS_URI, AWS_ENDPOINT_URL and the room there, and run it again"
            ) from error

    return told


def plain(error: Exception) -> str:
    """An error's message, on one line.

    delta-rs colours its messages, draws arrows in them and ends them with tracebacks.
    """
    message = str(error).partition("Detail: Python exception")[0]
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", message).split())
