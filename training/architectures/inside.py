"""What goes on inside a network: its feature maps, and which of them explain its answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.architectures.ensemble import Ensemble


def first_member(network: nn.Module) -> nn.Module:
    """Of an ensemble, the one that is explained; else the network itself."""
    return network.get_submodule("members.0") if isinstance(network, Ensemble) else network


def has_attention(network: nn.Module) -> bool:
    """Whether it is a transformer, whose attention is not of one emotion."""
    return any(isinstance(module, nn.MultiheadAttention) for module in network.modules())


def feature_maps(network: nn.Module, parts: Sequence[nn.Module], inputs: Tensor) -> list[Tensor]:
    """The outputs (C, h, w) of those stages that keep a grid of places."""
    found: list[Tensor] = []
    hooks = [
        part.register_forward_hook(lambda module, given, output: found.append(output))
        for part in parts
    ]
    try:
        with torch.inference_mode():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [output[0] for output in found if output.ndim == 4 and min(output.shape[2:]) > 1]


def last_grid(network: nn.Module, parts: Sequence[nn.Module], inputs: Tensor) -> nn.Module:
    """The last of the network's parts that keeps a grid of places: what Grad-CAM looks at.

    Raises:
        LookupError: none does.
    """
    for part in reversed(parts):
        if feature_maps(network, [part], inputs):
            return part
    raise LookupError("no stage of this network keeps a grid of places")
