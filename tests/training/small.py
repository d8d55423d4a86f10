"""A recipe and data so small that a test trains in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from moodlake.settings import PROJECT_ROOT
from training.data_set.facts import Facts
from training.evaluation.calibration import Calibration
from training.learning.batches import Split
from training.packaging.bundle import packed_network, write_bundle
from training.params import Params, load_params

SPACE = label_space("ferplus")
FACTS = Facts("made", SPACE, FaceMode.NONE, "digest")


def small(**changes: object) -> Params:
    params = load_params(PROJECT_ROOT / "params.yaml")
    recipe = replace(
        params.train, epochs=3, batch_size=16, learning_rate=0.05, weight_decay=0.0, ema_decay=0.9
    )
    model = replace(params.model, size=16)
    return replace(params, train=replace(recipe, **changes), model=model)  # type: ignore[arg-type]


def pack(
    folder: Path,
    network: nn.Module,
    weights: Path,
    params: Params,
    calibration: Calibration | None = None,
) -> Path:
    """Its bundle."""
    calibration = calibration or Calibration()
    converted = packed_network(network, params, calibration)
    write_bundle(folder, converted, params, FACTS, weights, calibration, {"kl": 0.5})
    return folder


def made(count: int = 64) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 1, 16, 16), dtype=np.uint8)
    return Split(images, rng.dirichlet(np.ones(8), count).astype(np.float32))
