"""Describe an architecture: its network, its stages from input to head, and its defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.params import ParamsError


class WeightsError(ParamsError):
    """Pretrained weights are unavailable; the message states how to train without them."""


@dataclass(frozen=True)
class Shape:
    """Input and output of a network to build.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        size: pixels of the square input.
        classes: emotions of the label space.
        dropout: share of features dropped before the head.
        pretrained: start from the architecture's pretrained weights.
    """

    channels: int
    size: int
    classes: int
    dropout: float
    pretrained: bool


@dataclass(frozen=True)
class Architecture:
    """A named network of a family.

    Attributes:
        build: a Shape -> (N, channels, size, size) float32 in, logits (N, classes) out.
        stages: the network's parts from input to head.
        size, channels, dropout: defaults.
        mean, std: of its input's pixel values, on the scale 0 to 1.
        optimizer, learning_rate, weight_decay: defaults of the recipe.
        trainable: number of last stages to train from pretrained weights; None: all.
        pretrained_on: data of its pretrained weights; None: there are none.
        folded_norms: whether batch norms are folded into the convolutions of its weights, so that
            `settle` must give them statistics before training.
    """

    build: Callable[[Shape], nn.Module]
    stages: Callable[[nn.Module], Sequence[nn.Module]]
    size: int
    channels: int = 1
    dropout: float = 0.2
    mean: float = 0.5
    std: float = 0.25
    optimizer: str = "sgd"
    learning_rate: float = 0.12
    weight_decay: float = 5e-4
    trainable: int | None = None
    pretrained_on: str | None = None
    folded_norms: bool = False


def take_channels(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Adapt a first convolution over RGB to `channels`; the weights for grey are their sum."""
    if first.in_channels == channels:
        return first
    weight = first.weight.data.sum(1, keepdim=True)
    first.weight = nn.Parameter(weight)
    first.in_channels = channels
    return first


def stages_at(*paths: str) -> Callable[[nn.Module], Sequence[nn.Module]]:
    """Return a function that finds stages at dotted paths; a path ending in .* names children.

    Modules without parameters are no stages.
    """

    def find(network: nn.Module) -> list[nn.Module]:
        found: list[nn.Module] = []
        for path in paths:
            module = network.get_submodule(path.removesuffix(".*"))
            found.extend(module.children() if path.endswith(".*") else [module])
        return [module for module in found if any(True for _ in module.parameters())]

    return find


def settle(network: nn.Module, inputs: Tensor) -> None:
    """Give each batch norm the statistics of its inputs, without changing the network's output.

    Args:
        network: any with batch norms.
        inputs: (N, channels, size, size), normalised.
    """

    def take(norm: nn.BatchNorm2d, reached: tuple[Tensor, ...]) -> None:
        mean, variance = reached[0].mean((0, 2, 3)), reached[0].var((0, 2, 3))
        values = norm.state_dict()
        slope = values["weight"] / (values["running_var"] + norm.eps).sqrt()
        values["bias"] += slope * (mean - values["running_mean"])
        values["weight"].copy_(slope * (variance + norm.eps).sqrt())
        values["running_mean"].copy_(mean)
        values["running_var"].copy_(variance)

    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    learning = network.training
    with torch.no_grad():
        network.eval()(inputs)
    network.train(learning)
    for hook in hooks:
        hook.remove()
