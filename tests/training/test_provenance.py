"""Provenance of a training: sources are recorded, and part of the key of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from moodlake.emotions import label_space
from moodlake.settings import PROJECT_ROOT
from tests.training.small import FACTS, SPACE, pack, small
from training.architectures import build
from training.architectures.own_weights import Made, made_from
from training.params import Params, ParamsError
from training.provenance import run_key, sources_of

MADE = Made(SPACE.emotions, ("made", "digest"), {"b.mar": "34", "a.mar": "12"})


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[nn.Module, Path]:
    network, file = build(small().model, 8), tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), file, MADE.to_metadata())
    return network, file


def starting_from(file: Path) -> Params:
    return replace(small(), model=replace(small().model, weights=str(file)))


def test_a_file_records_how_it_was_made(earlier: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, file = earlier
    assert made_from(file) == MADE
    assert len(MADE.to_metadata()) == 1  # safetensors writes several in no fixed order
    pack(tmp_path / "bundle", network, file, small())
    assert made_from(tmp_path / "bundle") == MADE
    safetensors.torch.save_file(network.state_dict(), file)
    assert made_from(file) == Made()


def test_a_head_for_as_many_other_emotions_is_not_loaded(
    earlier: tuple[nn.Module, Path],
) -> None:
    network, file = earlier
    params = starting_from(file).model
    same = build(params, 8, emotions=SPACE.emotions)
    other = build(params, 8, emotions=label_space("affectnet8").emotions)
    name, value = list(network.named_parameters())[-1]
    assert torch.equal(same.get_parameter(name), value)
    assert not torch.equal(other.get_parameter(name), value)
    name, value = next(network.named_parameters())
    assert torch.equal(other.get_parameter(name), value)


def test_another_file_of_the_same_name_makes_another_run(
    earlier: tuple[nn.Module, Path],
) -> None:
    _, file = earlier
    params = starting_from(file)
    key = run_key(params, "data", sources_of(params, FACTS))
    assert run_key(params, "data", sources_of(params, FACTS)) == key
    assert run_key(params, "other data", sources_of(params, FACTS)) != key
    safetensors.torch.save_file(build(small().model, 3).state_dict(), file)
    assert run_key(params, "data", sources_of(params, FACTS)) != key


def test_the_code_that_decides_a_training_is_part_of_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr("training.provenance.digest_of", lambda file: hashed.append(file) or "")
    run_key(small(), "data", {})
    names = {file.relative_to(PROJECT_ROOT).as_posix() for file in hashed}
    assert names >= {
        "moodlake/emotions.py",
        "moodlake/inference/decoding.py",
        "moodlake/inference/preprocessing.py",
        "training/data_set/samples.py",
        "training/learning/augment.py",
    }
    assert not any(name.startswith("moodlake/scoring/") for name in names)


def test_rows_that_an_earlier_training_may_have_seen_are_reported(
    earlier: tuple[nn.Module, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    params = starting_from(earlier[1])
    sources_of(params, FACTS)
    assert capsys.readouterr().err == ""
    sources_of(params, replace(FACTS, digest="of another split"))
    assert "learned from other rows of made" in capsys.readouterr().err


def test_an_absent_file_is_named() -> None:
    with pytest.raises(ParamsError, match=r"none\.mar cannot be read .*train\.teachers"):
        sources_of(small(teachers=["none.mar"]), FACTS)
