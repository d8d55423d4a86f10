"""Eight bits: what they keep, and when they are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from moodlake.model import Model
from tests.images_made import jpeg
from tests.training.small import FACTS, made, small
from training.architectures import build, preprocessing_of
from training.bundle import cost_of, packed_network, write_bundle
from training.calibrate import Calibration
from training.quantize import quantized


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network in floats and in 8 bits."""
    torch.manual_seed(0)
    network, folder = build(small().model, 8).eval(), tmp_path_factory.mktemp("bundles")
    weights = folder / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    floats = packed_network(network, small(), Calibration())
    images = preprocessing_of(small().model).normalise(made().images)
    for name, converted in {"floats": floats, "int8": quantized(floats, images)}.items():
        about = (small(), FACTS, weights, Calibration(), {})
        write_bundle(folder / name, converted, *about, int8=name == "int8")
    return {name: folder / name for name in ("floats", "int8")}


def test_it_answers_much_the_same_in_less_space(bundles: dict[str, Path]) -> None:
    split = made()
    floats, int8 = (Model.load(bundles[name]) for name in ("floats", "int8"))
    inputs = floats.preprocessing.normalise(split.images)
    expected = floats.predict(inputs)
    assert np.abs(int8.predict(inputs) - expected).max() < 0.02
    assert cost_of(bundles["int8"], split.images, split.distributions, expected).kl_gained < 0.01
    sizes = {name: (folder / "model.bin").stat().st_size for name, folder in bundles.items()}
    assert sizes["int8"] < 0.7 * sizes["floats"]
    assert int8.identity.digest != floats.identity.digest


def test_it_explains_itself_as_the_floats_do(bundles: dict[str, Path]) -> None:
    floats, int8 = (Model.load(bundles[name]).explain(jpeg()) for name in ("floats", "int8"))
    assert int8.emotion == floats.emotion
    assert np.corrcoef(int8.heat.ravel(), floats.heat.ravel())[0, 1] > 0.9
