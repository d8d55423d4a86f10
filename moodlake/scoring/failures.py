"""Translation of errors of disks, stores and Delta tables into SourceErrors."""

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
    """Wrap a step so that errors of the operating system and of delta-rs become SourceErrors."""

    @functools.wraps(step)
    def translated(*args: Given.args, **options: Given.kwargs) -> Result:
        try:
            return step(*args, **options)
        except CommitFailedError as error:
            raise SourceError(
                f"other writers kept committing to the table first ({one_line(error)}); no data "
                "is damaged: try again"
            ) from error
        except (OSError, DeltaError) as error:
            raise SourceError(
                f"a disk or store failed ({one_line(error)}); no data is damaged: check "
                "MOODLAKE_RESULTS_URI, AWS_ENDPOINT_URL and the free space, and try again"
            ) from error

    return translated


def one_line(error: Exception) -> str:
    """Return the message of an error on one line.

    Messages of delta-rs contain colours, arrows and tracebacks; these are removed.
    """
    message = str(error).partition("Detail: Python exception")[0]
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", message).split())
