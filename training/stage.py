"""How a stage ends when somebody has something to mend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from moodlake.errors import UserError


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Decorates `main`: what a person can mend ends the process with a message, not a traceback."""
    try:
        yield
    except UserError as error:
        sys.exit(f"{name}: {error}")
