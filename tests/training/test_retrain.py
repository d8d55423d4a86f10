"""Retraining in a real DVC project: a better model replaces the released one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moodlake.inference.bundle import BundleError, read_meta
from tests.bundles import write_archive
from training.tools.retrain import RetrainError, retrain

RELEASED = {"kl": 0.3, "macro_f1": 0.6, "accuracy": 0.8}


def archive(path: Path, metrics: dict[str, float], seed: int, data: str = "ferplus") -> Path:
    return write_archive(path, seed=seed, provenance={"data_name": data, "metrics": metrics})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project whose one stage copies new.mar to candidate.mar."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    stage = "{cmd: cp new.mar candidate.mar, deps: [new.mar], outs: [candidate.mar]}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{train: {stage}}}")
    archive(tmp_path / "released.mar", RELEASED, seed=0)
    return tmp_path


def retrained(project: Path, metrics: dict[str, float], data: str = "ferplus") -> bool:
    archive(project / "new.mar", metrics, seed=1, data=data)
    return retrain(project, project / "candidate.mar", project / "released.mar").released


def is_new(project: Path) -> bool:
    return read_meta(project / "released.mar")["digest"] == read_meta(project / "new.mar")["digest"]


@pytest.mark.parametrize(
    ("change", "better"),
    [
        ({"kl": 0.29}, True),
        ({"kl": 0.29, "accuracy": 0.79}, True),
        ({"kl": 0.31, "macro_f1": 0.7}, False),
        ({"kl": 0.29, "macro_f1": 0.5}, False),
        ({"kl": float("nan")}, False),
        ({}, False),
    ],
)
def test_only_a_better_model_is_released(
    project: Path, change: dict[str, float], better: bool
) -> None:
    assert retrained(project, RELEASED | change) == better
    assert is_new(project) == better


def test_a_model_without_metrics_is_not_released(project: Path) -> None:
    assert not retrained(project, {"accuracy": 0.9})


def test_metrics_on_other_data_are_an_error(project: Path) -> None:
    with pytest.raises(BundleError, match="do not compare"):
        retrained(project, RELEASED | {"kl": 0.1}, data="drawn")
    assert not is_new(project)


def test_the_error_of_a_failed_stage_holds_the_end_of_its_output(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {train: {cmd: 'echo no such data; exit 3'}}")
    with pytest.raises(RetrainError, match="no such data"):
        retrained(project, RELEASED)
