"""Imports point one way: dags -> moodlake.scoring -> moodlake, handlers -> moodlake, ..."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlake.settings import PROJECT_ROOT

FORBIDDEN = {
    "moodlake": {"airflow", "ts", "dvc", "torch", "training", "handlers", "dags", "streamlit"},
    "app": {"airflow", "ts", "dvc", "torch", "training", "handlers", "dags", "openvino"},
    "training": {"airflow", "ts", "dags", "handlers", "infra"},
    "handlers": {"airflow", "training", "dags", "infra"},
    "dags": {"handlers", "infra", "pandas", "torch", "boto3"},
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(PROJECT_ROOT)} imports {name}"
        for path in (PROJECT_ROOT / package).rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_only_the_command_line_reaches_the_local_stack() -> None:
    users = {
        path.name
        for path in (PROJECT_ROOT / "moodlake").rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] == "infra"
    }
    assert users == {
        "app.py",
        "cloud.py",
        "doctor.py",
        "local.py",
        "results.py",
        "serve.py",
        "size.py",
        "versions.py",
    }


def test_core_modules_know_nothing_of_scoring() -> None:
    core = (PROJECT_ROOT / "moodlake").glob("*.py")
    wrong = [path.name for path in core for name in imported(path) if "scoring" in name]
    assert wrong == []


def test_scoring_runs_without_torch() -> None:
    code = (
        "import sys, moodlake.inference.model, moodlake.scoring.pipeline;"
        "sys.exit('torch' in sys.modules or 'great_expectations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_openvino_does_not_tell_its_maker() -> None:
    code = (
        "import sys, moodlake.inference.model, nncf; from openvino.tools.ovc import telemetry;"
        "sys.exit(0 if 'stub' in type(telemetry).__module__ else type(telemetry).__module__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def test_help_comes_at_once_and_scoring_needs_no_local_servers() -> None:
    """Neither may load what is slow to import, or what only the `local` extra installs."""
    heavy = "{'deltalake', 'openvino', 'boto3', 'airflow', 'psutil', 'infra', 'pandas'}"
    code = f"import sys, moodlake.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
