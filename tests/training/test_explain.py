"""Heat maps: where a network that looks at one place looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moodlake.inference.gradcam import GradCam
from moodlake.settings import PROJECT_ROOT
from training.architectures import build, preprocessing_of, stages
from training.architectures.inside import feature_maps, last_grid
from training.packaging.bundle import to_openvino
from training.params import load_params
from training.tools.explain import draw_features, draw_heat, grad_cam, heat_map

MODEL = load_params(PROJECT_ROOT / "params.yaml").model


class LooksAtTheCorner(nn.Module):
    """Its logit 0 is the brightness of the upper left quarter, logit 1 that of the lower right."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        seen = self.see(x)
        return torch.stack(
            [seen[..., :8, :8].mean((1, 2, 3)), seen[..., 8:, 8:].mean((1, 2, 3))], 1
        )


def test_grad_cam_finds_the_decisive_pixels() -> None:
    network = LooksAtTheCorner().eval()
    pixels = torch.zeros(1, 1, 16, 16)
    pixels[..., 2:6, 2:6] = 1
    heat = grad_cam(network, network.see, pixels.requires_grad_(), 0)
    assert heat.shape == (16, 16)
    assert heat[3, 3] == 1
    assert heat[8:].max() == 0


@pytest.mark.parametrize("name", ["compact", "fer_cnn", "resnet18", "mobilenet_faces"])
def test_the_server_explains_as_captum_does(name: str) -> None:
    """Up to the kinks of max pooling: `moodlake.inference.gradcam` needs no backward pass."""
    torch.manual_seed(1)
    params = replace(MODEL, architecture=name, weights="none", size=64)
    network = build(params, 4).eval()
    preprocessing = preprocessing_of(params)
    inputs = torch.randn(1, preprocessing.channels, 64, 64)
    layer = last_grid(network, stages(network, name)[0], inputs)
    served = GradCam(to_openvino(network, preprocessing, layer))
    for emotion in range(4):
        expected = heat_map(network, name, inputs, emotion).numpy()
        found = served(inputs[0].numpy(), emotion)
        assert found == pytest.approx(expected, abs=0.1)
        assert expected.max() == 0 or np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "name", ["compact", "fer_cnn", "vit_scratch", "resnet18", "compact+fer_cnn"]
)
def test_every_kind_of_network_can_be_explained(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    params = replace(MODEL, architecture=name, weights="none", size=48)
    network = build(params, 4).eval()
    channels = preprocessing_of(params).channels
    inputs = torch.rand(1, channels, 48, 48)
    heat = heat_map(network, name, inputs, 1)
    assert heat.shape == (48, 48)
    assert 0 <= heat.min() <= heat.max() <= 1
    out = tmp_path / "heat.png"
    draw_heat(out, np.zeros((60, 50, 3), np.uint8), heat, "joy", [("joy", 0.7), ("fear", 0.3)])
    assert out.stat().st_size > 1000


def test_feature_maps_of_each_stage(tmp_path: Path) -> None:
    network = build(replace(MODEL, architecture="fer_cnn"), 4).eval()
    maps = feature_maps(network, stages(network, "fer_cnn")[0], torch.rand(1, 1, 48, 48))
    assert [tuple(part.shape) for part in maps] == [(32, 24, 24), (64, 12, 12), (128, 6, 6)]
    draw_features(tmp_path / "features.png", maps)
    assert (tmp_path / "features.png").exists()
