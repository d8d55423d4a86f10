"""Networks by name, a family a file: (N, channels, size, size) float32 -> logits (N, E).

Names joined by "+" make an ensemble of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from moodlake.preprocessing import Preprocessing
from training.architectures import (
    compact,
    fer_cnn,
    imagenet,
    mobilenet_faces,
    resemotenet,
    vit_scratch,
)
from training.architectures.base import Architecture, Shape, WeightsError, settle
from training.architectures.ensemble import Ensemble
from training.params import ModelParams, ParamsError

__all__ = [
    "ARCHITECTURES",
    "WeightsError",
    "build",
    "members",
    "preprocessing_of",
    "settle_norms",
    "stages",
]

ARCHITECTURES: dict[str, Architecture] = {
    **compact.ARCHITECTURES,
    **fer_cnn.ARCHITECTURES,
    **resemotenet.ARCHITECTURES,
    **vit_scratch.ARCHITECTURES,
    **imagenet.ARCHITECTURES,
    **mobilenet_faces.ARCHITECTURES,
}


def members(name: str) -> list[Architecture]:
    """The architectures that a name, or names joined by "+", stand for.

    Raises:
        ParamsError: there is no such architecture.
    """
    for part in name.split("+"):
        if part not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ParamsError(f"model.architecture={part!r} is not one of: {known}")
    return [ARCHITECTURES[part] for part in name.split("+")]


def preprocessing_of(params: ModelParams) -> Preprocessing:
    """The preprocessing of a network with these parameters; the first of an ensemble decides."""
    first = members(params.architecture)[0]
    return Preprocessing(
        params.size or first.size, params.channels or first.channels, first.mean, first.std
    )


def build(params: ModelParams, classes: int, *, pretrained: bool | None = None) -> nn.Module:
    """The network that `params.architecture` names.

    Args:
        params: null values are the architecture's own.
        classes: emotions of the label space.
        pretrained: overrides `params.weights`; False where trained weights follow anyway.

    Raises:
        ParamsError: there is no such network.
        WeightsError: its pretrained weights cannot be had.
    """
    preprocessing = preprocessing_of(params)
    networks = []
    for architecture in members(params.architecture):
        wanted = params.weights != "none" if pretrained is None else pretrained
        shape = Shape(
            preprocessing.channels,
            preprocessing.size,
            classes,
            architecture.dropout if params.dropout is None else params.dropout,
            wanted and architecture.has_weights,
        )
        networks.append(architecture.build(shape))
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def stages(network: nn.Module, name: str) -> list[Sequence[nn.Module]]:
    """For each member, its parts in the order of the flow; the last one is the head."""
    networks = network.members if isinstance(network, Ensemble) else [network]
    return [
        architecture.stages(member)
        for architecture, member in zip(members(name), networks, strict=True)
    ]


def settle_norms(network: nn.Module, params: ModelParams, inputs: Tensor) -> None:
    """`settle` the members whose weights came without the norms' statistics."""
    networks = network.members if isinstance(network, Ensemble) else [network]
    for architecture, member in zip(members(params.architecture), networks, strict=True):
        if architecture.folded_norms and params.weights != "none":
            settle(member, inputs)
