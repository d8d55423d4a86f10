"""Change each image of a batch at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.params import AugmentParams

_ERASED_SIDE = (0.15, 0.4)


def augment(pixels: Tensor, params: AugmentParams, generator: torch.Generator) -> Tensor:
    """Flip, rotate, scale, shift, relight and erase (Zhong et al., "Random Erasing", AAAI 2020).

    Args:
        pixels: (N, C, s, s) float32 in [0, 1].
        params: the largest change of each kind.
        generator: the only source of randomness.

    Returns:
        The same shape, in [0, 1].
    """
    count = len(pixels)

    def within(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    angle, zoom = within(params.rotation), 1 + within(params.scale)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    mirror = torch.ones(count)
    if params.flip:
        mirror[torch.rand(count, generator=generator) < 0.5] = -1
    # A shift of the share s of the side is 2 s in the coordinates of affine_grid, -1 to 1.
    rows = [
        torch.stack([cos * mirror, -sin, within(2 * params.shift)], 1),
        torch.stack([sin * mirror, cos, within(2 * params.shift)], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    contrast = (1 + within(params.contrast)).view(-1, 1, 1, 1)
    brightness = within(params.brightness).view(-1, 1, 1, 1)
    lit = ((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    return _erase(lit, params.erase, generator)


def mix(
    pixels: Tensor, target: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each image and its distribution with another's (mixup, Zhang et al., ICLR 2018).

    Args:
        pixels: (N, C, s, s); target: (N, E).
        alpha: of the symmetric beta distribution of the first image's share.
        generator: the only source of randomness.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator))  # torch's beta takes no generator
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(pixels))
    share = torch.from_numpy(drawn.astype(np.float32))
    other = torch.randperm(len(pixels), generator=generator)
    blend = share.view(-1, 1, 1, 1)
    mixed = blend * pixels + (1 - blend) * pixels[other]
    return mixed, share[:, None] * target + (1 - share[:, None]) * target[other]


def _erase(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Grey out a random square in a `share` of the images."""
    side = pixels.shape[-1]
    smallest, largest = (round(limit * side) for limit in _ERASED_SIDE)
    chosen = torch.nonzero(torch.rand(len(pixels), generator=generator) < share)[:, 0]
    for index in chosen.tolist():
        length = int(torch.randint(smallest, largest + 1, (1,), generator=generator))
        top, left = torch.randint(0, side - length + 1, (2,), generator=generator).tolist()
        pixels[index, :, top : top + length, left : left + length] = 0.5
    return pixels
