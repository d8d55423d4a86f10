"""dvc.yaml: a stage depends on all the code that decides its result."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moodlake.settings import PROJECT_ROOT

STAGES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text("utf-8"))["stages"]

# How things are told, named and written, and how faces are found, which no stage trains on: a
# change here leaves data and weights as they are.
PLUMBING = {
    "moodlake/inference/blazeface.py",
    "moodlake/inference/openvino_config.py",
    "moodlake/errors.py",
    "moodlake/inference/faces.py",
    "moodlake/prediction.py",
    "moodlake/reasons.py",
    "moodlake/settings.py",
    "moodlake/inference/crop.py",
    "moodlake/timings.py",
    "training/files.py",
    "training/params.py",
    "training/stage.py",
}


def imported(path: Path) -> Iterator[Path]:
    """The project's own modules that a module names in its imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            place = PROJECT_ROOT.joinpath(*node.module.split("."))
            names = [place / f"{alias.name}.py" for alias in node.names]
            yield from filter(
                Path.exists, [place.with_suffix(".py"), place / "__init__.py", *names]
            )


def reached(path: Path) -> set[Path]:
    found, left = {path}, [path]
    while left:
        new = set(imported(left.pop())) - found
        found |= new
        left.extend(new)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    command = STAGES[stage]["cmd"].split()
    module = PROJECT_ROOT.joinpath(*command[-1].split(".")).with_suffix(".py")
    needed = {str(path.relative_to(PROJECT_ROOT)) for path in reached(module)} - PLUMBING
    assert len(needed) > 3
    named = STAGES[stage]["deps"]
    missing = {
        path
        for path in needed
        if not any(path == dep or path.startswith(f"{dep}/") for dep in named)
    }
    assert missing == set()


@pytest.mark.parametrize(
    "name", ["prepare", "train", "calibrate", "evaluate", "archive", "cost", "explain"]
)
def test_what_is_wrong_with_the_parameters_is_told_without_a_traceback(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"training.{name}").main
    arguments = {"cost": ([],), "explain": (["photo.jpg"],)}.get(name, ())
    with pytest.raises(SystemExit, match=rf"^{name}: params\.yaml cannot be read"):
        main(*arguments)
