"""Networks by name, a family a file: (N, channels, size, size) float32 -> logits (N, E).

Names joined by "+" form an ensemble.
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
    """Return the architectures of a name, or of names joined by "+".

    Raises:
        ParamsError: an architecture is unknown.
    """
    for part in name.split("+"):
        if part not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ParamsError(f"model.architecture={part!r} is not one of: {known}")
    return [ARCHITECTURES[part] for part in name.split("+")]


def preprocessing_of(params: ModelParams) -> Preprocessing:
    """Return the preprocessing of a network; that of an ensemble is its first member's."""
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
    """Build the network that `params.architecture` names.

    Args:
        params: null stands for the architecture's default.
        classes: number of emotions.
        pretrained: False to ignore `params.weights`, because trained weights follow.
        emotions: of the classes; a head for others is not taken from an earlier training.

    Raises:
        ParamsError: the network is unknown or does not support this size.
        WeightsError: its pretrained weights are unavailable.
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
    """Build a network and check that it accepts images of this size."""
    try:
        network = architecture.build(shape)
        with torch.inference_mode():
            network.eval()(torch.zeros(1, shape.channels, shape.size, shape.size))
    except (AssertionError, RuntimeError) as error:
        raise ParamsError(f"model.size={shape.size} does not suit {name}: {error}") from error
    return network.train()


def _scales(params: ModelParams) -> list[tuple[float, float]]:
    """Return factor and offset from the first member's input to that of each member."""
    first, *_ = known = members(params.architecture)
    return [(first.std / each.std, (first.mean - each.mean) / each.std) for each in known]


def members_of(network: nn.Module, name: str) -> list[tuple[Architecture, nn.Module]]:
    """Return the architecture and the network of each member."""
    networks = network.members if isinstance(network, Ensemble) else [network]
    return list(zip(members(name), networks, strict=True))


def origin(params: ModelParams) -> str:
    """Describe the origin of a network's initial weights, for the model card."""
    known = {member.pretrained_on for member in members(params.architecture)}
    pretrained = " and ".join(sorted(name for name in known if name))
    if params.weights_file:
        earlier = f"an earlier training in this project ({params.weights_file.name})"
        if not pretrained:
            return earlier
        return f"{earlier}; the architecture's pretrained weights are from {pretrained}"
    if params.weights == "none" or not pretrained:
        return "random weights"
    return pretrained


def stages(network: nn.Module, name: str) -> list[Sequence[nn.Module]]:
    """Return the parts of each member, from input to head."""
    return [architecture.stages(member) for architecture, member in members_of(network, name)]


def settle_norms(network: nn.Module, params: ModelParams, inputs: Tensor) -> None:
    """`settle` the members whose weights lack statistics of batch norms."""
    given = network.inputs(inputs) if isinstance(network, Ensemble) else [inputs]
    each = zip(members_of(network, params.architecture), given, strict=True)
    for (architecture, member), seen in each:
        if architecture.folded_norms and params.weights is None:
            settle(member, seen)
