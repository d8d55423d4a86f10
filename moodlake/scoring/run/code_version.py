"""Which code runs, for the table of runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from moodlake.settings import PROJECT_ROOT

COMMIT_VARIABLE, LOCK_VARIABLE = "MOODLAKE_GIT_COMMIT", "MOODLAKE_DVC_LOCK"
"""Told by those who install without the checkout."""


def git_commit(*paths: str, root: Path = PROJECT_ROOT) -> str | None:
    """The commit that a checkout is at, with `-dirty` where its files differ from that.

    Args:
        paths: if given, all that counts: the last commit that changed one of them.
        root: of the checkout; if it is none, COMMIT_VARIABLE tells the commit.
    """
    # Without this, git would take a repository around the folder that this is installed in.
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
    """SHA-256 of dvc.lock; where there is none, what LOCK_VARIABLE tells."""
    lock = root / "dvc.lock"
    if not lock.exists():
        return os.environ.get(LOCK_VARIABLE) or None
    return hashlib.sha256(lock.read_bytes()).hexdigest()
