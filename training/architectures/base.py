"""What an architecture is: a network, its stages from input to head, and how it likes to be fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from training.params import ParamsError


class WeightsError(ParamsError):
    """Pretrained weights that cannot be had; the message says how to go on without them."""


@dataclass(frozen=True)
class Shape:
    """What a network is built for.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        size: pixels of the square input.
        classes: emotions of the label space.
        dropout: share of features dropped before the head.
        pretrained: start from ImageNet weights.
    """

    channels: int
    size: int
    classes: int
    dropout: float
    pretrained: bool


@dataclass(frozen=True)
class Architecture:
    """A family member by name.

    Attributes:
        build: a Shape -> (N, channels, size, size) float32 in, logits (N, classes) out.
        stages: the network's parts in the order of the flow; the last one is the head.
        size, channels, dropout: what it was designed for.
        mean, std: of its input's pixel values, on the scale 0 to 1.
        optimizer, learning_rate, weight_decay: a recipe that trains it well.
        has_weights: whether ImageNet weights exist for it.
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
    has_weights: bool = False


def take_channels(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A first convolution over RGB made to take `channels`: the weights of grey are their sum."""
    if first.in_channels == channels:
        return first
    weight = first.weight.data.sum(1, keepdim=True)
    first.weight = nn.Parameter(weight)
    first.in_channels = channels
    return first


def stages_at(*paths: str) -> Callable[[nn.Module], Sequence[nn.Module]]:
    """The stages of a network at dotted paths; one ending in .* stands for the children there."""

    def find(network: nn.Module) -> list[nn.Module]:
        found: list[nn.Module] = []
        for path in paths:
            module = network.get_submodule(path.removesuffix(".*"))
            found.extend(module.children() if path.endswith(".*") else [module])
        return found

    return find
