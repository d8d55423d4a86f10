"""Prepare batches in the background while the network learns from the previous one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moodlake.inference.preprocessing import Preprocessing
from training.learning.augment import augment, mix
from training.params import AugmentParams


@dataclass
class Split:
    """Images (N, C, s, s) uint8 and distributions (N, E) float32."""

    images: NDArray[np.uint8]
    distributions: NDArray[np.float32]


class Batches:
    """Shuffle, augment and normalise a split in batches.

    Args:
        split: the images and distributions.
        size: rows in a batch; an incomplete last batch is dropped.
        preprocessing: its mean and deviation normalise the pixels.
        changes: parameters of the augmentation.
        mixup: alpha; 0 is off.

    Attributes:
        waited: seconds spent waiting for batches, over all epochs.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        preprocessing: Preprocessing,
        changes: AugmentParams,
        mixup: float,
    ) -> None:
        self._split, self._size = split, size
        self._preprocessing, self._changes, self._mixup = preprocessing, changes, mixup
        self.waited = 0.0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return max(1, len(self._split.images) // self._size)

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs (B, C, s, s) and distributions (B, E); the seed determines their order."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self._split.images), generator=generator)
        parts = order[: len(self) * self._size].split(self._size)
        with ThreadPoolExecutor(1) as background:
            ready = background.submit(self._make, parts[0], generator)
            for following in [*parts[1:], None]:
                asked = time.perf_counter()
                batch = ready.result()
                self.waited += time.perf_counter() - asked
                if following is not None:
                    ready = background.submit(self._make, following, generator)
                yield batch

    def _make(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(self._split.images[rows.numpy()]).float() / 255
        target = torch.from_numpy(self._split.distributions[rows.numpy()])
        changed = augment(pixels, self._changes, generator)
        if self._mixup:
            changed, target = mix(changed, target, self._mixup, generator)
        inputs = (changed - self._preprocessing.mean) / self._preprocessing.std
        return inputs.contiguous(memory_format=torch.channels_last), target
