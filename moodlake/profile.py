"""A small summary of many images, by which runs are compared with each other and with training.

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
"""Of entropy and brightness, alike wide from 0 to 1."""
MILLIONTHS = 1_000_000
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Profile:
    """Counts of images, by what was read in them. A bin that is absent counts 0.

    Attributes:
        emotions: emotion -> sum of its probabilities, in millionths: whole numbers add up the
            same in any order.
        dominant: emotion -> images in which it is the most probable one.
        entropy: lower end of the bin -> images, by entropy / log(E): 0 when certain, 1 when all E
            emotions are equal.
        brightness: lower end of the bin -> images, by `Prediction.brightness`.
        size: power of two -> images, by the shorter side in pixels of what was read (a face's
            box, or the image): "64" holds 64 to 127.
        outcomes: "scored" or a reason -> images.
    """

    emotions: Counts
    dominant: Counts
    entropy: Counts
    brightness: Counts
    size: Counts
    outcomes: Counts

    @classmethod
    def empty(cls) -> Self:
        """Of no images: adding it changes nothing."""
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
        """The profile of scored images.

        Args:
            space: the label space.
            distributions: (N, E) over it.
            brightness: 0 to 1, of those images of which it is known.
            sizes: shorter sides in pixels, 1 at least, likewise.
            outcomes: "scored" and the reasons of the rejected -> images; not given where images
                were chosen, so that rejects tell nothing.
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
        """Images with a distribution."""
        return sum(self.dominant.values())

    @property
    def images(self) -> int:
        """All images; the scored ones where rejects are not known."""
        return sum(self.outcomes.values()) or self.scored

    def rejected(self) -> dict[str, int]:
        """Images by reason, the most frequent first."""
        others = ((name, count) for name, count in self.outcomes.items() if name != Status.SCORED)
        return dict(sorted(others, key=lambda item: (-item[1], item[0])))

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Plain values for JSON."""
        return {field.name: dict(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; what a later version adds is left aside."""
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
