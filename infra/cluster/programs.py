"""Programs that no wheel carries: where this machine has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from moodlake.errors import UserError

_POSTGRES = Path("/usr/lib/postgresql")
"""Where Debian puts PostgreSQL's programs: not in the PATH, and one folder for each version."""


class MissingProgram(UserError):
    """A program that is not installed; the message says which, and what installs it."""


def find_program(name: str) -> str:
    """Where a program is: in the PATH, or of the newest PostgreSQL.

    Raises:
        MissingProgram: nowhere there.
    """
    versions = [folder for folder in _POSTGRES.glob("*/bin") if folder.parent.name.isdigit()]
    versions.sort(key=lambda folder: int(folder.parent.name), reverse=True)
    for path in (None, *map(str, versions)):
        if found := shutil.which(name, path=path):
            return found
    raise MissingProgram(
        f"there is no {name}, neither in the PATH nor in {_POSTGRES}/*/bin. Workers need "
        "redis-server and postgresql; on Debian and Ubuntu, infra/cluster/install.sh installs them"
    )
