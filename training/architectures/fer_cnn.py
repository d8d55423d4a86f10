"""The plain CNN of the FER-2013 tutorials: three convolutions, one hidden layer, 48 x 48 grey."""

from __future__ import annotations

from torch import Tensor, nn

from training.architectures.base import Architecture, Shape

_WIDTHS = (32, 64, 128)
_HIDDEN = 256


class FerCNN(nn.Module):
    """Three 3 x 3 convolutions (32, 64, 128), each with ReLU and 2 x 2 pooling; 256; dropout."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs = (shape.channels, *_WIDTHS)
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
                )
                for before, after in zip(inputs, _WIDTHS, strict=False)
            )
        )
        side = shape.size // 2 ** len(_WIDTHS)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(_WIDTHS[-1] * side**2, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(shape.dropout),
            nn.Linear(_HIDDEN, shape.classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> logits (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


ARCHITECTURES = {
    "fer_cnn": Architecture(
        FerCNN,
        lambda network: [
            *network.get_submodule("features").children(),
            network.get_submodule("head"),
        ],
        48,
        dropout=0.5,
        learning_rate=0.05,
    )
}
