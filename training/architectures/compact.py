"""A compact residual network for small face crops: 1.0 M parameters, 68 M MACs at 48 x 48."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architectures.base import Architecture, Shape

_WIDTHS = (24, 48, 96, 160)
_DEPTHS = (1, 1, 2)


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> the same shape, each channel scaled by 0 to 1."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(functional.relu(self.squeeze(pooled))))


def two_convolutions(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """The body of a residual block: two 3 x 3 convolutions, normalised, a ReLU between them."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with channel attention around a shortcut (He et al., CVPR 2016).

    The shortcut pools before it projects, so that no pixel is skipped (He et al., CVPR 2019).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *two_convolutions(inputs, outputs, stride),
            SqueezeExcite(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, h / stride, w / stride)."""
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


class CompactNet(nn.Module):
    """A stem at full resolution, three stages that halve it, and a linear head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        stem = _WIDTHS[0]
        layers: list[nn.Module] = [
            nn.Conv2d(shape.channels, stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        ]
        inputs = stem
        for width, depth in zip(_WIDTHS[1:], _DEPTHS, strict=True):
            for index in range(depth):
                layers.append(ResidualBlock(inputs, width, 2 if index == 0 else 1))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(shape.dropout)
        self.head = nn.Linear(inputs, shape.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> logits (N, classes)."""
        logits: Tensor = self.head(self.dropout(self.features(x).mean((2, 3))))
        return logits


ARCHITECTURES = {
    "compact": Architecture(
        CompactNet,
        lambda network: [
            *network.get_submodule("features").children(),
            network.get_submodule("head"),
        ],
        48,
    )
}
