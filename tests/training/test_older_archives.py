"""Archives of earlier releases, from the history of this repository: served and learned from."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from moodlake.emotions import label_space
from moodlake.inference.bundle import read_meta
from moodlake.inference.model import Model
from moodlake.settings import PROJECT_ROOT, RELEASED_ARCHIVE
from training.architectures import WeightsError, build
from training.architectures.own_weights import STORED, made_from
from training.files import sha256
from training.params import ModelParams

EMOTIONS = label_space("ferplus").emotions
# Version: commit, architecture, digest with the installed detector, happiness of the probe image
RELEASES = {
    "2.0": (
        "30e80ccc9c82bb72978bb56a47096551bd47e3c3",
        "efficientnet_lite0",
        "64b0fcecfd2fe4d5a043006dfe2805897fa0da39200e1720b9e6fce62b2f12ad",
        0.9999,
    ),
    "3.0": (
        "f41008c41bdeb57a0b068f361927e4b3177651e8",
        "mobilenet_faces",
        "34b80db6f2aea38f21f73a0cb2125dcf6d2bd8967a68bf32230ec622018b80a8",
        0.9911,
    ),
    "3.2": (
        "3e3b5b41843c4413866eb270f845adfa7381dea6",
        "mobilenet_faces",
        "a33dad17d2c3d75ab48ea2c6e156445e4fe843a15b0e1d07b5d550a89a4ee236",
        0.9942,
    ),
}


def archive_of(version: str, folder: Path) -> Path:
    """Take the released archive of a version out of git's history."""
    commit = RELEASES[version][0]
    done = subprocess.run(
        ["git", "show", f"{commit}:model_store/emotions.mar"], cwd=PROJECT_ROOT, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"commit {commit} is absent: a shallow clone, or no repository")
    path = folder / f"{version}.mar"
    path.write_bytes(done.stdout)
    return path


def network(architecture: str, weights: Path) -> torch.nn.Module:
    params = ModelParams(architecture, None, None, None, str(weights))
    return build(params, len(EMOTIONS), emotions=EMOTIONS)


@pytest.mark.parametrize("version", RELEASES)
def test_an_older_archive_is_served_as_before(version: str, tmp_path: Path) -> None:
    _, _, digest, happiness = RELEASES[version]
    model = Model.load(archive_of(version, tmp_path))
    assert (model.identity.version, model.identity.digest) == (version, digest)
    distribution = model.probe().distribution
    assert distribution is not None
    assert distribution["happiness"] == pytest.approx(happiness, abs=1e-3)


@pytest.mark.parametrize("version", RELEASES)
def test_a_training_starts_from_the_weights_inside_an_older_archive(
    version: str, tmp_path: Path
) -> None:
    archive = archive_of(version, tmp_path)
    with zipfile.ZipFile(archive) as content:
        stored = safetensors.torch.load(content.read("weights.safetensors"))
    started = network(RELEASES[version][1], archive).state_dict()
    assert all(
        torch.equal(started[name], value.to(started[name])) for name, value in stored.items()
    )


def test_the_released_archive_answers_as_before_at_half_the_size(tmp_path: Path) -> None:
    older = archive_of("3.2", tmp_path)
    assert read_meta(RELEASED_ARCHIVE)["digest"] == read_meta(older)["digest"]
    assert RELEASED_ARCHIVE.stat().st_size < 0.52 * older.stat().st_size
    with zipfile.ZipFile(older) as before, zipfile.ZipFile(RELEASED_ARCHIVE) as after:
        for name in ("model.xml", "model.bin"):
            assert after.read(name) == before.read(name)
        assert "weights.safetensors" not in after.namelist()


def test_a_training_starts_from_the_weights_beside_the_released_archive(tmp_path: Path) -> None:
    weights = RELEASED_ARCHIVE.with_suffix(".safetensors")
    assert read_meta(RELEASED_ARCHIVE)["provenance"][STORED] == sha256(weights)
    assert made_from(weights) == made_from(RELEASED_ARCHIVE)
    older = network("mobilenet_faces", archive_of("3.2", tmp_path)).state_dict()
    for file in (RELEASED_ARCHIVE, weights):
        started = network("mobilenet_faces", file).state_dict()
        assert all(torch.equal(started[name], value) for name, value in older.items())


def test_an_archive_without_its_weights_is_reported(tmp_path: Path) -> None:
    alone = tmp_path / "alone.mar"
    alone.write_bytes(RELEASED_ARCHIVE.read_bytes())
    with pytest.raises(WeightsError, match=r"alone\.safetensors does not exist; copy both files"):
        network("mobilenet_faces", alone)
    weights = safetensors.torch.save({"of another": torch.zeros(1)})
    alone.with_suffix(".safetensors").write_bytes(weights)
    with pytest.raises(WeightsError, match=r"not of the same release as .*alone\.mar"):
        network("mobilenet_faces", alone)
