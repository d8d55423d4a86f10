"""`moodlake release`: shows both models' metrics, and asks before it replaces anything."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from moodlake.cli import app
from tests.bundles import write_archive

GOOD = {"accuracy": 0.8, "kl": 0.3}
WORSE = {"accuracy": 0.7, "kl": 0.4}


def archive(path: Path, metrics: dict[str, float], data: str = "ferplus", seed: int = 0) -> Path:
    return write_archive(path, seed=seed, provenance={"data_name": data, "metrics": metrics})


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return archive(tmp_path / "released.mar", GOOD)


def release(candidate: Path, released: Path, *options: str, answer: str = "y") -> Result:
    arguments = ["release", str(candidate), "--released", str(released), *options]
    return CliRunner().invoke(app, arguments, input=f"{answer}\n")


def digest(path: Path) -> str:
    with zipfile.ZipFile(path) as content:
        return str(json.loads(content.read("model.json"))["digest"])


def test_both_models_are_shown_and_the_candidate_is_promoted(
    tmp_path: Path, released: Path
) -> None:
    candidate = archive(tmp_path / "new" / "candidate.mar", WORSE, seed=1)
    candidate.with_name("MODEL_CARD.md").write_text("# the candidate's card")
    candidate.with_name("figures.png").write_bytes(b"its curves")
    candidate.with_name("candidate.safetensors").write_bytes(b"its weights")
    result = release(candidate, released)
    assert result.exit_code == 0, result.output
    for number in ("0.8000", "0.7000", "0.3000", "0.4000"):
        assert number in result.output
    assert digest(released) == digest(candidate)
    assert released.with_name("MODEL_CARD.md").read_text() == "# the candidate's card"
    assert released.with_name("figures.png").read_bytes() == b"its curves"
    assert released.with_name("released.safetensors").read_bytes() == b"its weights"


def test_files_of_the_old_model_are_removed_with_it(tmp_path: Path, released: Path) -> None:
    released.with_name("figures.png").write_bytes(b"old curves")
    released.with_suffix(".safetensors").write_bytes(b"old weights")
    release(archive(tmp_path / "new" / "candidate.mar", GOOD, seed=1), released)
    assert not released.with_name("figures.png").exists()
    assert not released.with_suffix(".safetensors").exists()


def test_without_consent_nothing_is_replaced(tmp_path: Path, released: Path) -> None:
    before = released.read_bytes()
    candidate = archive(tmp_path / "candidate.mar", GOOD, seed=1)
    assert release(candidate, released, answer="n").exit_code == 1
    assert released.read_bytes() == before


def test_metrics_of_other_data_do_not_compare(tmp_path: Path, released: Path) -> None:
    candidate = archive(tmp_path / "candidate.mar", GOOD, data="drawn", seed=1)
    refused = release(candidate, released)
    assert refused.exit_code == 1
    assert "0.3000" in refused.output
    assert "--force" in refused.output
    assert release(candidate, released, "--force").exit_code == 0
    assert digest(released) == digest(candidate)


def test_metrics_of_other_rows_do_not_compare(tmp_path: Path, released: Path) -> None:
    few = {"data_name": "ferplus", "data_digest": "of 500 rows", "metrics": GOOD}
    candidate = write_archive(tmp_path / "candidate.mar", seed=1, provenance=few)
    refused = release(candidate, released)
    assert refused.exit_code == 1
    assert "measured on other rows" in " ".join(refused.output.split())


def test_a_damaged_candidate_is_not_released(tmp_path: Path, released: Path) -> None:
    before = released.read_bytes()
    candidate = tmp_path / "candidate.mar"
    candidate.write_bytes(before[: len(before) // 2])
    result = release(candidate, released, "--yes")
    assert result.exit_code == 1
    assert "not a model archive" in " ".join(result.output.split())
    assert released.read_bytes() == before
