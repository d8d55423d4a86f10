"""An ensemble: several networks whose distributions are averaged."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the distributions of its members; each learns independently.

    Args:
        members: the networks.
        scales: factor and offset of each member's input, as members may normalise pixels
            differently.
    """

    def __init__(self, members: list[nn.Module], scales: list[tuple[float, float]]) -> None:
        super().__init__()
        self.members, self.scales = nn.ModuleList(members), scales

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> (N, classes): the logarithm of the mean distribution."""
        logarithms = torch.stack([logits.log_softmax(1) for logits in self.each(x)])
        return logarithms.logsumexp(0) - math.log(len(self.members))

    def each(self, x: Tensor) -> list[Tensor]:
        """Return the members' logits, each (N, classes)."""
        return [member(inputs) for member, inputs in zip(self.members, self.inputs(x), strict=True)]

    def inputs(self, x: Tensor) -> list[Tensor]:
        """Return the input of each member, each (N, channels, size, size)."""
        return [
            x if (scale, shift) == (1, 0) else x * scale + shift for scale, shift in self.scales
        ]
