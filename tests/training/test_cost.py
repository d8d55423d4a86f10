from __future__ import annotations

from dataclasses import replace

import pytest

from moodlake.settings import PROJECT_ROOT
from training.params import load_params
from training.tools.cost import measure


def test_the_cost_of_the_plain_cnn_by_hand() -> None:
    model = load_params(PROJECT_ROOT / "params.yaml").model
    cost = measure(replace(model, architecture="fer_cnn"))
    convolutions = 9 * (1 * 32 * 48**2 + 32 * 64 * 24**2 + 64 * 128 * 12**2)
    hidden = 128 * 6 * 6 * 256
    assert cost.macs == pytest.approx(convolutions + hidden + 256 * 8, rel=1e-3)
    weights = 9 * (32 + 32 * 64 + 64 * 128) + 32 + 64 + 128 + hidden + 256 + 256 * 8 + 8
    assert cost.parameters == weights
    assert cost.milliseconds > 0


def test_attention_counts_as_well() -> None:
    model = load_params(PROJECT_ROOT / "params.yaml").model
    cost = measure(replace(model, architecture="vit_scratch"))
    tokens, width, patch = 8 * 8 + 1, 192, 6 * 6
    matrices = tokens * width * (3 * width + width + 2 * 4 * width)
    attention = 2 * tokens**2 * width
    assert cost.macs == pytest.approx(
        (tokens - 1) * patch * width + 6 * (matrices + attention) + width * 8, rel=1e-3
    )
