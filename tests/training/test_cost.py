from __future__ import annotations

from dataclasses import replace

import pytest

from moodlake.settings import PROJECT_ROOT
from training.cost import measure
from training.params import load_params


def test_the_cost_of_the_plain_cnn_by_hand() -> None:
    model = load_params(PROJECT_ROOT / "params.yaml").model
    cost = measure(replace(model, architecture="fer_cnn"))
    convolutions = 9 * (1 * 32 * 48**2 + 32 * 64 * 24**2 + 64 * 128 * 12**2)
    hidden = 128 * 6 * 6 * 256
    assert cost.macs == pytest.approx(convolutions + hidden + 256 * 8, rel=1e-3)
    weights = 9 * (32 + 32 * 64 + 64 * 128) + 32 + 64 + 128 + hidden + 256 + 256 * 8 + 8
    assert cost.parameters == weights
    assert cost.milliseconds > 0
