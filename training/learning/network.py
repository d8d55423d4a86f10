"""Load a trained network, and predict logits for arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn

from moodlake.inference.preprocessing import Preprocessing
from training.architectures import WeightsError, build
from training.params import Params
from training.paths import WEIGHTS_FILE


def predict_logits(
    network: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Return logits (N, E) of a network for resized images (N, C, s, s) uint8."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = [
            network(
                torch.from_numpy(preprocessing.normalise(images[start : start + 256])).to(device)
            )
            for start in range(0, len(images), 256)
        ]
        logits: NDArray[np.float32] = torch.cat(batches).cpu().numpy()
    return logits


def load_network(params: Params, classes: int, weights: Path = WEIGHTS_FILE) -> nn.Module:
    """Load the trained network, ready to predict.

    Raises:
        WeightsError: the weights belong to another network than `params` describes.
    """
    network = build(params.model, classes, pretrained=False)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{weights} does not fit the network in params.yaml; `dvc repro` trains that one"
        ) from error
    return network.eval()
