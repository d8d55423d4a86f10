"""Feature maps of a network, and the layer that heat maps use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.architectures.ensemble import Ensemble


def first_member(network: nn.Module) -> nn.Module:
    """Return an ensemble's first member, which heat maps explain, or the network itself."""
    return network.get_submodule("members.0") if isinstance(network, Ensemble) else network


def has_attention(network: nn.Module) -> bool:
    """Whether the network is a transformer, whose attention does not depend on an emotion."""
    return any(isinstance(module, nn.MultiheadAttention) for module in network.modules())


def feature_maps(network: nn.Module, parts: Sequence[nn.Module], inputs: Tensor) -> list[Tensor]:
    """Return the outputs (C, h, w) of the stages with spatial outputs."""
    found: list[Tensor] = []
    hooks = [
        part.register_forward_hook(lambda module, inputs, output: found.append(output))
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
    """Return the last part with spatial outputs, for Grad-CAM.

    Raises:
        LookupError: there is none.
    """
    for part in reversed(parts):
        if feature_maps(network, [part], inputs):
            return part
    raise LookupError("no stage of this network has spatial outputs")
