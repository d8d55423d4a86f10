"""ResEmoteNet (Roy et al., "ResEmoteNet", IEEE Signal Processing Letters 2024), 64 x 64 input."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from training.architectures.base import Architecture, Shape, stages_at
from training.architectures.compact import SqueezeExcite, two_convolutions

_WIDTHS = (64, 128, 256)
_RESIDUAL_WIDTHS = (512, 1024, 2048)
_HIDDEN = (1024, 512, 256)
_REDUCTION = 16
_EARLY_DROPOUT = 0.2


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*two_convolutions(inputs, outputs, stride))
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


class ResEmoteNet(nn.Module):
    """Three convolutions (64, 128, 256), an SE block, residual blocks (512, 1024, 2048), a MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs = (shape.channels, *_WIDTHS)
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(2),
                    nn.Dropout(_EARLY_DROPOUT),
                )
                for before, after in zip(inputs, _WIDTHS, strict=False)
            )
        )
        self.attention = SqueezeExcite(_WIDTHS[-1], _REDUCTION)
        residual = (_WIDTHS[-1], *_RESIDUAL_WIDTHS)
        self.residual = nn.Sequential(
            *(
                _Residual(before, after, 2)
                for before, after in zip(residual, _RESIDUAL_WIDTHS, strict=False)
            )
        )
        hidden = (_RESIDUAL_WIDTHS[-1], *_HIDDEN)
        layers = [
            nn.Sequential(
                nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(shape.dropout)
            )
            for before, after in zip(hidden, _HIDDEN, strict=False)
        ]
        self.head = nn.Sequential(*layers, nn.Linear(_HIDDEN[-1], shape.classes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> logits (N, classes)."""
        features = self.residual(self.attention(self.features(x)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


ARCHITECTURES = {
    "resemotenet": Architecture(
        ResEmoteNet,
        stages_at("features.*", "attention", "residual.*", "head"),
        64,
        channels=3,
        dropout=0.5,
        learning_rate=0.01,
        weight_decay=1e-4,
    )
}
