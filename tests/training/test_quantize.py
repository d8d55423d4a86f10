"""Quantisation to 8 bits: predictions, size, and when it is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from moodlake.inference.model import Model
from tests.images_made import jpeg, picture
from tests.training.small import FACTS, small
from training.architectures import build, preprocessing_of
from training.evaluation.calibration import Calibration
from training.learning.network import predict_logits
from training.packaging import bundle
from training.packaging.archive import Packed, pack
from training.params import Params

SIZE = 16
IMAGES = np.stack([np.asarray(picture(n, SIZE, SIZE).convert("L"))[None] for n in range(100)])


def params(int8: bool) -> Params:
    return replace(small(), archive=replace(small().archive, int8=int8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Sure of itself: its answers differ from image to image."""
    torch.manual_seed(0)
    network = build(small().model, 8).eval()
    logits = predict_logits(network, IMAGES, preprocessing_of(small().model))
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        scale = 2 / logits.std(axis=0).mean()
        head.bias.copy_(-scale * (torch.tensor(logits.mean(axis=0)) - head.bias))
        head.weight *= scale
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    return network, weights


def packed(folder: Path, trained: tuple[nn.Module, Path], int8: bool) -> Packed:
    expected = Calibration()(predict_logits(trained[0], IMAGES, preprocessing_of(small().model)))
    judged = (IMAGES, expected, expected)
    about = (params(int8), FACTS, Calibration(), {})
    return pack(folder, *trained, *about, judged, IMAGES)


def test_an_8_bit_network_predicts_nearly_the_same_in_less_space(
    trained: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MOST_ACCURACY_LOST", 1)
    monkeypatch.setattr(bundle, "MOST_KL_GAINED", 1)
    both = [packed(tmp_path / str(int8), trained, int8) for int8 in (False, True)]
    assert [each.meta["provenance"]["int8"] for each in both] == [False, True]
    floats, int8 = (Model.load(each.folder) for each in both)
    inputs = floats.preprocessing.normalise(IMAGES)
    expected = floats.predict(inputs)
    assert expected.std(axis=0).mean() > 0.1
    assert np.abs(int8.predict(inputs) - expected).mean() < 0.05
    sizes = [(each.folder / "model.bin").stat().st_size for each in both]
    assert sizes[1] < 0.7 * sizes[0]
    assert both[0].meta["digest"] != both[1].meta["digest"]
    again = packed(tmp_path / "again", trained, int8=True)
    assert again.meta == both[1].meta
    heat = [model.explain(jpeg(), "fear").heat.ravel() for model in (floats, int8)]
    assert np.corrcoef(heat)[0, 1] > 0.9


def test_an_8_bit_network_that_loses_too_much_is_not_used(
    trained: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MOST_KL_GAINED", 1e-5)  # floats are as good as their network
    kept = packed(tmp_path, trained, int8=True)
    assert kept.folder.name == "floats"
    assert not kept.meta["provenance"]["int8"]
    assert kept.int8
    assert kept.int8.kl_gained > kept.cost.kl_gained
