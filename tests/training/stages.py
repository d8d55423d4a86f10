"""The stages of dvc.yaml run in another folder than the project's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from moodlake.settings import PROJECT_ROOT

STAGES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text("utf-8"))["stages"]


_RUN = """
import runpy, sys
for module in sys.argv[1:]:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def run_stages(stages: Iterable[str], folder: Path) -> str:
    """Run stages, one after another, in one new process; return what they printed."""
    commands = [STAGES[stage]["cmd"].split() for stage in stages]
    assert all(command[:2] == ["python", "-m"] for command in commands)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *(module for _, _, module in commands)],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(PROJECT_ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
