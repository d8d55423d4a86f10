"""How a command ends when the user has something to fix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from moodlake.errors import UserError


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Decorate a `main` to exit with a message instead of a traceback on a UserError."""
    try:
        yield
    except UserError as error:
        sys.exit(f"{name}: {error}")
