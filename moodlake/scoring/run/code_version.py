"""The version of the code that runs, for the runs table."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from moodlake.settings import PROJECT_ROOT

COMMIT_VARIABLE, LOCK_VARIABLE = "MOODLAKE_GIT_COMMIT", "MOODLAKE_DVC_LOCK"
"""Environment variables that name the version where there is no checkout."""


def git_commit(*paths: str, root: Path = PROJECT_ROOT) -> str | None:
    """Return the commit of a checkout, with `-dirty` if its files differ from it.

    Args:
        paths: restrict the answer to these paths: the last commit that changed one of them.
        root: folder of the checkout. If it is not a checkout, COMMIT_VARIABLE names the commit.
    """
    # Without this check, git finds any repository around the installation folder.
    if not (root / ".git").exists():
        return os.environ.get(COMMIT_VARIABLE) or None
    git = ["git", "-C", str(root)]
    try:
        log = [*git, "log", "-1", "--format=%H", "--", *paths]
        commit = subprocess.run(log, capture_output=True, text=True, check=True).stdout.strip()
        diff = [*git, "diff", "--quiet", "HEAD", "--", *paths]
        differs = subprocess.run(diff, capture_output=True, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if differs else commit


def dvc_lock(root: Path = PROJECT_ROOT) -> str | None:
    """Return the SHA-256 of dvc.lock, or the value of LOCK_VARIABLE if there is no such file."""
    lock = root / "dvc.lock"
    if not lock.exists():
        return os.environ.get(LOCK_VARIABLE) or None
    return hashlib.sha256(lock.read_bytes()).hexdigest()
