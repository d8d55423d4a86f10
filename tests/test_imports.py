"""What is imported, and when. Which package may import which: `[tool.importlinter]`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlake.settings import PROJECT_ROOT

FORBIDDEN_IN_DAGS = {"app", "handlers", "infra", "pandas", "torch", "boto3"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_dags_import_neither_what_serves_nor_what_is_slow() -> None:
    """DAG files are no package, so the import linter does not see them."""
    wrong = [
        f"{path.name} imports {name}"
        for path in (PROJECT_ROOT / "dags").glob("*.py")
        for name in imported(path)
        if name.split(".")[0] in FORBIDDEN_IN_DAGS
    ]
    assert wrong == []


@pytest.mark.slow
def test_scoring_runs_without_torch() -> None:
    code = (
        "import sys, moodlake.inference.model, moodlake.scoring.pipeline;"
        "sys.exit('torch' in sys.modules or 'great_expectations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("module", ["moodlake.inference.model", "training.tools.cost"])
def test_openvino_sends_no_telemetry(module: str) -> None:
    code = (
        f"import sys, {module}, nncf; from openvino.tools.ovc import telemetry;"
        "sys.exit(0 if 'stub' in type(telemetry).__module__ else type(telemetry).__module__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def test_help_comes_at_once_and_scoring_needs_no_local_servers() -> None:
    """Neither may load what is slow to import, or what only the `local` extra installs."""
    heavy = "{'deltalake', 'openvino', 'boto3', 'airflow', 'psutil', 'infra.local', 'pandas'}"
    code = f"import sys, moodlake.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
