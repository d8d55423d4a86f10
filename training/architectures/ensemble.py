"""Several networks that answer together: the mean of their distributions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the distributions of its members; each learns as if it were alone."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, size, size) -> (N, classes): the logarithm of the mean distribution."""
        return torch.stack([logits.softmax(1) for logits in self.each(x)]).mean(0).log()

    def each(self, x: Tensor) -> list[Tensor]:
        """The members' own logits, each (N, classes)."""
        return [member(x) for member in self.members]
