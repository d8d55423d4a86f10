"""Networks by name, a family a file: (N, channels, size, size) float32 -> logits (N, E).

Names joined by "+" make an ensemble of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moodlake.inference.preprocessing import Preprocessing
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
from training.architectures.own_weights import start_from
from training.params import ModelParams, ParamsError

__all__ = [
    "ARCHITECTURES",
    "WeightsError",
    "build",
    "members",
    "members_of",
    "origin",
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


def build(
    params: ModelParams,
    classes: int,
    *,
    pretrained: bool = True,
    emotions: tuple[str, ...] | None = None,
) -> nn.Module:
    """The network that `params.architecture` names.

    Args:
        params: null values are the architecture's own.
        classes: emotions of the label space.
        pretrained: False where trained weights follow anyway, whatever `params.weights` says.
        emotions: what the classes are; a head for others is not taken from an earlier training.

    Raises:
        ParamsError: there is no such network, or not of this size.
        WeightsError: its pretrained weights cannot be had.
    """
    preprocessing = preprocessing_of(params)
    networks = []
    for architecture in members(params.architecture):
        shape = Shape(
            preprocessing.channels,
            preprocessing.size,
            classes,
            architecture.dropout if params.dropout is None else params.dropout,
            pretrained and params.weights is None and architecture.pretrained_on is not None,
        )
        networks.append(_built(architecture, shape, params.architecture))
    network = networks[0] if len(networks) == 1 else Ensemble(networks, _scales(params))
    if pretrained and params.weights_file:
        heads = nn.ModuleList(parts[-1] for parts in stages(network, params.architecture))
        start_from(network, heads, params.weights_file, emotions)
    return network


def _built(architecture: Architecture, shape: Shape, name: str) -> nn.Module:
    """The network, having seen that it takes images of this size."""
    try:
        network = architecture.build(shape)
        with torch.inference_mode():
            network.eval()(torch.zeros(1, shape.channels, shape.size, shape.size))
    except (AssertionError, RuntimeError) as error:
        raise ParamsError(f"model.size={shape.size} does not suit {name}: {error}") from error
    return network.train()


def _scales(params: ModelParams) -> list[tuple[float, float]]:
    """What makes of the first member's input that of each member."""
    first, *_ = known = members(params.architecture)
    return [(first.std / each.std, (first.mean - each.mean) / each.std) for each in known]


def members_of(network: nn.Module, name: str) -> list[tuple[Architecture, nn.Module]]:
    """The architecture and the network of each member."""
    networks = network.members if isinstance(network, Ensemble) else [network]
    return list(zip(members(name), networks, strict=True))


def origin(params: ModelParams) -> str:
    """What a network's weights had learned from before it was trained here, in words."""
    known = {member.pretrained_on for member in members(params.architecture)}
    pretrained = " and ".join(sorted(name for name in known if name))
    if params.weights_file:
        earlier = f"an earlier training here ({params.weights_file.name})"
        return (
            f"{earlier}; this architecture's own are from {pretrained}" if pretrained else earlier
        )
    if params.weights == "none" or not pretrained:
        return "nothing: it learned from scratch"
    return pretrained


def stages(network: nn.Module, name: str) -> list[Sequence[nn.Module]]:
    """For each member, its parts in the order of the flow; the last one is the head."""
    return [architecture.stages(member) for architecture, member in members_of(network, name)]


def settle_norms(network: nn.Module, params: ModelParams, inputs: Tensor) -> None:
    """`settle` the members whose weights came without the norms' statistics."""
    given = network.inputs(inputs) if isinstance(network, Ensemble) else [inputs]
    each = zip(members_of(network, params.architecture), given, strict=True)
    for (architecture, member), seen in each:
        if architecture.folded_norms and params.weights is None:
            settle(member, seen)
