"""Find executables that no wheel contains, such as PostgreSQL's."""

from __future__ import annotations

import shutil
from pathlib import Path

from moodlake.errors import UserError

_POSTGRES = Path("/usr/lib/postgresql")
"""Debian's folder of PostgreSQL, one subfolder per version; it is not in the PATH."""


class MissingExecutable(UserError):
    """A program is not installed; the message names it and how to install it."""


def find_executable(name: str) -> str:
    """Return the path of a program in the PATH, or in the newest PostgreSQL's folder.

    Raises:
        MissingExecutable: it is in neither.
    """
    versions = [folder for folder in _POSTGRES.glob("*/bin") if folder.parent.name.isdigit()]
    versions.sort(key=lambda folder: int(folder.parent.name), reverse=True)
    for path in (None, *map(str, versions)):
        if found := shutil.which(name, path=path):
            return found
    raise MissingExecutable(
        f"{name} is neither in the PATH nor in {_POSTGRES}/*/bin. Workers need redis-server and "
        "postgresql; on Debian and Ubuntu, infra/celery/install.sh installs them"
    )
