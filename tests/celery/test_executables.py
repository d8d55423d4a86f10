"""Programs that workers need are found, or named in an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.celery import executables
from moodlake.cli import app


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of PostgreSQL's versions, empty like the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(executables, "_POSTGRES", tmp_path / "postgresql")
    return tmp_path / "postgresql"


def install(path: Path) -> str:
    path.parent.mkdir(parents=True)
    path.touch(0o755)
    return str(path)


def test_the_newest_postgresql_is_used(versions: Path) -> None:
    for version in ("9", "15", "common"):
        install(versions / version / "bin" / "postgres")
    newest = install(versions / "17" / "bin" / "postgres")
    assert executables.find_executable("postgres") == newest


def test_a_program_in_the_path_comes_first(versions: Path) -> None:
    install(versions / "17" / "bin" / "postgres")
    mine = install(versions.parent / "bin" / "postgres")
    assert executables.find_executable("postgres") == mine


@pytest.mark.usefixtures("versions")
def test_up_names_a_missing_program_and_leaves_nothing_running(tmp_path: Path) -> None:
    command = ["up", "--workers", "2", "--free-ports", "--state", str(tmp_path / "state")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "initdb is neither in the PATH" in done.output
    assert "infra/celery/install.sh" in done.output
    assert not (tmp_path / "state" / "stack.json").exists()
