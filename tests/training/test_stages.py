"""dvc.yaml: each stage depends on all code that decides its result, and on no more folders."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodlake.settings import PROJECT_ROOT
from tests.training.stages import STAGES

# Error classes, reason codes, file helpers and paths: they decide no data, weights or numbers.
PLUMBING = {
    "moodlake/errors.py",
    "moodlake/prediction.py",
    "moodlake/reasons.py",
    "moodlake/settings.py",
    "moodlake/timings.py",
    "training/files.py",
    "training/params.py",
    "training/paths.py",
    "training/stage.py",
}
# The archive holds a prediction of the probe image, so that module decides its bytes.
DECIDES = {"archive": {"moodlake/prediction.py"}}
# Folders that a stage cannot name: they hold the other stages, or the whole library.
GROUND = ("moodlake", "training")


def imported(path: Path) -> Iterator[Path]:
    """Yield the project's modules that a module names in its imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            place = PROJECT_ROOT.joinpath(*node.module.split("."))
            names = [place / f"{alias.name}.py" for alias in node.names]
            yield from filter(
                Path.exists, [place.with_suffix(".py"), place / "__init__.py", *names]
            )


def reached(path: Path) -> set[str]:
    """Return a module and all modules that it imports, directly or not."""
    found, left = {path}, [path]
    while left:
        new = set(imported(left.pop())) - found
        found |= new
        left.extend(new)
    return {item.relative_to(PROJECT_ROOT).as_posix() for item in found}


def main_of(stage: str) -> str:
    return STAGES[stage]["cmd"].split()[-1].replace(".", "/") + ".py"


def covers(dependency: str, path: str) -> bool:
    return path == dependency or path.startswith(f"{dependency}/")


def depends_on(stage: str, path: str) -> bool:
    return any(covers(dependency, path) for dependency in STAGES[stage]["deps"])


def code_dependencies(stage: str) -> list[str]:
    """Return the dependencies that are code: packages and modules, not data."""
    return [
        dependency
        for dependency in STAGES[stage]["deps"]
        if dependency.endswith(".py") or (PROJECT_ROOT / dependency / "__init__.py").exists()
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    needed = reached(PROJECT_ROOT / main_of(stage)) - PLUMBING | DECIDES.get(stage, set())
    assert len(needed) > 3
    assert {path for path in needed if not depends_on(stage, path)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    run = reached(PROJECT_ROOT / main_of(stage))
    handler = {"handlers/entry_point.py"}  # its bytes go into the archive
    unused = {
        dependency
        for dependency in code_dependencies(stage)
        if not any(covers(dependency, path) for path in run)
    }
    assert unused <= (handler if stage == "archive" else set())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_folders_instead_of_the_files_in_them(stage: str) -> None:
    files = {name for name in code_dependencies(stage) if name.endswith(".py")} - {main_of(stage)}
    named = {name for name in files if Path(name).parent.as_posix() not in GROUND}
    assert named <= {"handlers/entry_point.py"}


def test_the_detector_is_a_dependency_of_the_archive() -> None:
    """The archive states the detector's digest and holds a probe that was made with it."""
    for name in ("blazeface.py", "faces.py", "crop.py", "probe.jpg"):
        assert depends_on("archive", f"moodlake/inference/{name}")
    for file in (PROJECT_ROOT / "moodlake/inference/detector").iterdir():
        assert depends_on("archive", file.relative_to(PROJECT_ROOT).as_posix())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pipeline in which DVC takes every stage for done."""
    folder = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__", "runs")
    for name in ("handlers", "moodlake", "training"):
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=ignore)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(PROJECT_ROOT / name, folder / name)
    for content in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for output in content.get(kind, ()):
                path = folder / (output if isinstance(output, str) else next(iter(output)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("made")
    dvc(folder, "init", "--no-scm", "-q")
    dvc(folder, "commit", "-f", "-q")
    return folder


def dvc(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("changed", "rerun", "kept"),
    [
        (
            "training/learning/augment.py",
            {"train"},
            {"prepare", "validate", "overview", "evaluate", "figures"},
        ),
        ("training/evaluation/figures.py", {"figures"}, {"prepare", "train"}),
        ("moodlake/inference/blazeface.py", {"archive"}, {"figures"}),
        ("moodlake/inference/detector/blazeface_back.tflite", {"archive"}, {"figures"}),
        ("moodlake/scoring/pipeline.py", set(), set(STAGES)),
    ],
)
def test_dvc_reruns_the_stages_that_a_change_of_code_decides(
    project: Path, changed: str, rerun: set[str], kept: set[str]
) -> None:
    file = project / changed
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"\n")
        status: dict[str, Any] = json.loads(dvc(project, "status", "--json"))
    finally:
        file.write_bytes(before)
    assert rerun <= set(status)
    assert not kept & set(status)


@pytest.mark.parametrize(
    "name",
    [
        "stages.prepare",
        "stages.train",
        "stages.calibrate",
        "stages.evaluate",
        "stages.archive",
        "tools.cost",
        "tools.explain",
    ],
)
def test_an_unreadable_params_file_ends_a_command_without_a_traceback(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"training.{name}").main
    command = name.partition(".")[2]
    arguments = {"cost": ([],), "explain": (["photo.jpg"],)}.get(command, ())
    with pytest.raises(SystemExit, match=rf"^{command}: params\.yaml cannot be read"):
        main(*arguments)
