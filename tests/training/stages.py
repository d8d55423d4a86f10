"""The stages of dvc.yaml as commands, in another folder than the project's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from moodlake.settings import PROJECT_ROOT

STAGES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text("utf-8"))["stages"]


def run_stage(stage: str, folder: Path) -> str:
    """Run a stage of dvc.yaml; return what it printed."""
    command = [sys.executable, *STAGES[stage]["cmd"].split()[1:]]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(PROJECT_ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
