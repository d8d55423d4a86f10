"""The bundle and the archive: reproducible, served as trained, and usable as teachers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from moodlake.emotions import label_space
from moodlake.inference.decoding import decode
from moodlake.inference.model import Model
from tests.images_made import jpeg
from tests.training.small import SPACE, made, pack, small
from training.architectures import build, preprocessing_of
from training.data_set.samples import SCHEMA
from training.evaluation.calibration import Calibration
from training.learning.network import predict_logits
from training.learning.teachers import taught
from training.packaging.archive import write_archive
from training.packaging.bundle import BundleDiffers, check_bundle
from training.params import ParamsError
from training.paths import SAMPLES_FILE


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    network = build(small().model, 8).eval()
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    return network, weights


def test_the_archive_built_twice_is_the_same(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    network, weights = trained
    digests = set()
    for name in ("one", "two"):
        bundle, archive = tmp_path / name, tmp_path / f"{name}.mar"
        pack(bundle, network, weights, small(), Calibration(1.5))
        write_archive(bundle, archive, small().archive)
        digests.add(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration(1.7),
        Calibration(1.0, tuple(np.linspace(0.5, 1.5, 8)), tuple(np.linspace(-1, 1, 8))),
    ],
)
def test_the_served_model_predicts_as_the_trained_network(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path, calibration: Calibration
) -> None:
    network, weights = trained
    params = replace(small(), archive=replace(small().archive, precision="fp32"))
    pack(tmp_path, network, weights, params, calibration)
    served, images = Model.load(tmp_path), [jpeg(seed, 50, 40) for seed in range(5)]
    preprocessing = preprocessing_of(small().model)
    resized = np.stack([preprocessing.resize(decode(image).pixels) for image in images])
    expected = calibration(predict_logits(network, resized, preprocessing))
    for prediction, row in zip(served.score(images), expected, strict=True):
        assert prediction.distribution is not None
        assert list(prediction.distribution.values()) == pytest.approx(row.tolist(), abs=1e-5)


def test_teachers_have_their_share_of_the_target(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, weights = trained
    target = made(5).distributions
    images = [jpeg(seed, 16, 16) for seed in range(5)]
    rows = [
        {"split": "train", "image": image, "distribution": row.tolist()}
        for image, row in zip(images, target, strict=True)
    ]
    monkeypatch.chdir(tmp_path)
    SAMPLES_FILE.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), SAMPLES_FILE)
    archives = []
    for name, calibration in (("sure", Calibration(0.5)), ("unsure", Calibration(2.0))):
        pack(tmp_path / name, network, weights, small(), calibration)
        archives.append(str(tmp_path / name))
    said = [
        [list(prediction.distribution.values()) for prediction in Model.load(file).score(images)]
        for file in archives
    ]
    recipe = small(teachers=archives, teacher_share=0.25).train
    blend = taught(target, recipe, SPACE)
    assert blend == pytest.approx(0.75 * target + 0.25 * np.mean(said, axis=0), abs=1e-5)
    assert taught(target, small().train, SPACE) is target
    with pytest.raises(ParamsError, match=r"train\.teachers: .*predicts neutral"):
        taught(target, recipe, label_space("fer2013"))
    with pytest.raises(ParamsError, match=r"none\.mar does not exist"):
        taught(target, small(teachers=["none.mar"]).train, SPACE)


def test_half_precision_halves_the_bundle_and_keeps_its_predictions(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    network, weights = trained
    split = made(40)
    expected = Calibration()(predict_logits(network, split.images, preprocessing_of(small().model)))
    sizes = {}
    for precision in ("fp32", "fp16"):
        params = replace(small(), archive=replace(small().archive, precision=precision))
        folder = tmp_path / precision
        pack(folder, network, weights, params)
        cost = check_bundle(folder, split.images, split.distributions, expected)
        assert abs(cost.kl_gained) < 1e-3
        sizes[precision] = sum(file.stat().st_size for file in folder.iterdir())
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    better = np.eye(8)[split.distributions.argmax(1)] * 0.9 + 0.0125
    with pytest.raises(BundleDiffers, match=r"archive\.precision"):
        check_bundle(folder, split.images, split.distributions, better)
    with pytest.raises(BundleDiffers):
        check_bundle(folder, split.images, split.distributions, np.full_like(better, np.nan))
