"""The version of the code in the runs table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from moodlake.scoring.run.code_version import COMMIT_VARIABLE, LOCK_VARIABLE, dvc_lock, git_commit

ME = ("-c", "user.name=me", "-c", "user.email=me@example.org")


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *ME, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    for name in ("code.py", "words.md"):
        (tmp_path / name).write_text("first\n", "utf-8")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-q", "-m", name)
    return tmp_path


def test_a_checkout_tells_its_commit_and_whether_that_is_all(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert git_commit(root=checkout) == head
    (checkout / "code.py").write_text("second\n", "utf-8")
    assert git_commit(root=checkout) == f"{head}-dirty"


def test_paths_are_all_that_counts(checkout: Path) -> None:
    before = git(checkout, "rev-parse", "HEAD~1")
    (checkout / "words.md").write_text("second\n", "utf-8")
    assert git_commit("code.py", root=checkout) == before


def test_a_repository_around_an_installation_is_not_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = checkout / "site-packages"
    inside.mkdir()
    assert git_commit(root=inside) is None
    assert dvc_lock(root=inside) is None
    monkeypatch.setenv(COMMIT_VARIABLE, "c0ffee")
    monkeypatch.setenv(LOCK_VARIABLE, "1a2b")
    assert git_commit(root=inside) == "c0ffee"
    assert dvc_lock(root=inside) == "1a2b"
