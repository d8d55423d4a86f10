"""Networks by name, a family a file: (N, channels, size, size) float32 -> logits (N, E)."""

from __future__ import annotations

from torch import nn

from training.architectures.compact import CompactNet
from training.params import ModelParams, ParamsError


def build(params: ModelParams, classes: int) -> nn.Module:
    """The network that `params.architecture` names, with fresh weights.

    Raises:
        ParamsError: there is no such network.
    """
    if params.architecture == "compact":
        return CompactNet(params.channels, classes, params.dropout)
    raise ParamsError(f"model.architecture={params.architecture!r} is not one of: compact")
