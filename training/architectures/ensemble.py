"""Several networks that answer together: the mean of their distributions."""

from __future__ import annotations

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
        return torch.stack([logits.softmax(1) for logits in self.each(x)]).mean(0).log()

    def each(self, x: Tensor) -> list[Tensor]:
        """The members' own logits, each (N, classes)."""
        pairs = zip(self.members, self.scales, strict=True)
        return [
            member(x if scale == (1, 0) else x * scale[0] + scale[1]) for member, scale in pairs
        ]
