"""A small vision transformer to train from scratch (Dosovitskiy et al., ICLR 2021)."""

from __future__ import annotations

from torch import nn

from training.architectures import torchvision_cpu
from training.architectures.base import Architecture, Shape, stages_at, take_channels

_PATCHES = 8
_DEPTH, _HEADS, _WIDTH = 6, 6, 192


def _build(shape: Shape) -> nn.Module:
    """8 x 8 patches whatever the size; 6 layers of 6 heads, 192 wide."""
    torchvision_cpu.prepare()
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        image_size=shape.size,
        patch_size=shape.size // _PATCHES,
        num_layers=_DEPTH,
        num_heads=_HEADS,
        hidden_dim=_WIDTH,
        mlp_dim=4 * _WIDTH,
        dropout=shape.dropout,
        num_classes=shape.classes,
    )
    take_channels(network.conv_proj, shape.channels)
    nn.init.normal_(network.heads.head.weight, std=0.02)
    return network


ARCHITECTURES = {
    "vit_scratch": Architecture(
        _build,
        stages_at("conv_proj", "encoder.layers.*", "encoder.ln", "heads"),
        48,
        dropout=0.1,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
    )
}
