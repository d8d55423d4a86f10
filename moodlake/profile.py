"""A small summary of many images, to compare runs with each other and with the training data.

Profiles add up: the sum of the profiles of parts is, to the last digit, the profile of the whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moodlake.emotions import LabelSpace, entropy
from moodlake.reasons import Status

BINS = 10
"""Number of equally wide bins of entropy and of brightness, from 0 to 1."""
MILLIONTHS = 1_000_000
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Profile:
    """Counts of images by their predictions and properties. An absent bin counts 0.

    Attributes:
        emotions: emotion -> sum of its probabilities in millionths; whole numbers have the same
            sum in any order.
        dominant: emotion -> number of images in which it is the most probable one.
        entropy: lower end of the bin -> number of images, by entropy / log(E): 0 if certain, 1 if
            all E emotions are equally probable.
        brightness: lower end of the bin -> number of images, by `Prediction.brightness`.
        size: power of two -> number of images, by the shorter side in pixels of the scored part (a
            face's box, or the image): "64" counts 64 to 127.
        outcomes: "scored" or a reason -> number of images.
    """

    emotions: Counts
    dominant: Counts
    entropy: Counts
    brightness: Counts
    size: Counts
    outcomes: Counts

    @classmethod
    def empty(cls) -> Self:
        """Return the profile of no images, the neutral element of addition."""
        return cls(**{field.name: {} for field in fields(cls)})

    @classmethod
    def of(
        cls,
        space: LabelSpace,
        distributions: ArrayLike,
        *,
        brightness: ArrayLike = (),
        sizes: ArrayLike = (),
        outcomes: Mapping[str, int] | None = None,
    ) -> Self:
        """Return the profile of scored images.

        Args:
            space: the label space.
            distributions: (N, E) over it.
            brightness: 0 to 1, of the images for which it is known.
            sizes: shorter sides in pixels, at least 1, of the images for which they are known.
            outcomes: "scored" and reasons of rejection -> number of images; omit it for selected
                images, whose rejections mean nothing.
        """
        rows = np.asarray(distributions, np.float64).reshape(-1, len(space))
        millionths = np.rint(rows * MILLIONTHS).astype(np.int64).sum(axis=0)
        leading = rows.argmax(axis=1)
        return cls(
            emotions=_filled(zip(space.emotions, millionths.tolist(), strict=True)),
            dominant=dict(sorted(Counter(space.emotions[i] for i in leading).items())),
            entropy=_binned(entropy(rows) / math.log(len(space))),
            brightness=_binned(np.asarray(brightness, np.float64)),
            size=_octaves(np.asarray(sizes, np.float64)),
            outcomes=_filled((outcomes or {}).items()),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            **{
                field.name: _added(getattr(self, field.name), getattr(other, field.name))
                for field in fields(self)
            }
        )

    @property
    def scored(self) -> int:
        """Number of images with a distribution."""
        return sum(self.dominant.values())

    @property
    def images(self) -> int:
        """Number of images; of scored ones if rejections are unknown."""
        return sum(self.outcomes.values()) or self.scored

    def rejected(self) -> dict[str, int]:
        """Return reason -> number of images, the most frequent reason first."""
        others = ((name, count) for name, count in self.outcomes.items() if name != Status.SCORED)
        return dict(sorted(others, key=lambda item: (-item[1], item[0])))

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return JSON values."""
        return {field.name: dict(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the values of `to_dict`; ignores fields of later versions."""
        return cls(**{field.name: values.get(field.name, {}) for field in fields(cls)})


def _filled(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    return {name: count for name, count in counts if count}


def _added(one: Counts, other: Counts) -> dict[str, int]:
    return {
        name: one.get(name, 0) + other.get(name, 0)
        for name in [*one, *(name for name in other if name not in one)]
    }


def _binned(values: NDArray[np.float64]) -> dict[str, int]:
    numbers = np.clip((values * BINS).astype(np.int64), 0, BINS - 1)
    return {f"{number / BINS:.1f}": count for number, count in _numbered(numbers)}


def _octaves(sizes: NDArray[np.float64]) -> dict[str, int]:
    numbers = np.floor(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    return {str(2**number): count for number, count in _numbered(numbers)}


def _numbered(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    values, counts = np.unique(numbers, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))
