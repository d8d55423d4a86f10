"""Several networks that answer together: the mean of their distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the distributions of its members; each learns as if it were alone.

    Args:
        members: the networks.
        scales: for each, what its input is multiplied by, and what is then added: members may
            have learned from pixels of another mean and deviation.
    """

    def __init__(self, members: list[nn.Module], scales: list[tuple[float, float]]) -> None:
        super().__init__()
        self.members, self.scales = nn.ModuleList(members), scales

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> (N, classes): the logarithm of the mean distribution."""
        logarithms = torch.stack([logits.log_softmax(1) for logits in self.each(x)])
        return logarithms.logsumexp(0) - math.log(len(self.members))

    def each(self, x: Tensor) -> list[Tensor]:
        """The members' own logits, each (N, classes)."""
        return [member(given) for member, given in zip(self.members, self.inputs(x), strict=True)]

    def inputs(self, x: Tensor) -> list[Tensor]:
        """What each member sees, each (N, channels, size, size)."""
        return [
            x if (scale, shift) == (1, 0) else x * scale + shift for scale, shift in self.scales
        ]
