"""How distributions over the same emotions changed: sums over pairs that come in batches."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moodlake.emotions import jensen_shannon_distance

RESOLUTION = 10_000
"""Quantiles are told to one part of these."""
_QUANTILES = (0.1, 0.5, 0.9, 0.99)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ChangedImage:
    """One object version and what two models say of it; distributions run over the emotions."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    size: int
    distance: float
    old: tuple[float, ...]
    new: tuple[float, ...]


@dataclass(frozen=True)
class Changes:
    """From old to new distributions over E emotions.

    Attributes:
        pairs: how many there are.
        changed: share of the pairs whose most probable emotion is another one, 0 to 1.
        mean_distance: the mean Jensen-Shannon distance, 0 to 1.
        quantiles: share of the pairs -> the distance that these do not exceed, rounded up to
            1 / RESOLUTION.
        histogram: (RESOLUTION,) pairs by their distance, in equal steps from 0 to 1.
        shift: (E,) mean of the new minus the old probability, -1 to 1.
        transitions: (E, E) pairs by the most probable emotion: row old, column new.
        most_changed: by distance, the largest first.
    """

    pairs: int
    changed: float
    mean_distance: float
    quantiles: dict[float, float]
    histogram: NDArray[np.int64]
    shift: Array
    transitions: NDArray[np.int64]
    most_changed: tuple[ChangedImage, ...]


class Tally:
    """Adds up `Changes`; it keeps sums and the most changed images, however many pairs come.

    Args:
        emotions: what the distributions run over.
        most_changed: how many images to keep.
    """

    def __init__(self, emotions: Sequence[str], most_changed: int) -> None:
        size = len(emotions)
        self._most = most_changed
        self._distances = 0.0
        self._histogram = np.zeros(RESOLUTION, np.int64)
        self._shift = np.zeros(size)
        self._transitions = np.zeros((size, size), np.int64)
        self._top: list[ChangedImage] = []

    def add(self, images: pa.RecordBatch, old: Array, new: Array) -> None:
        """Take pairs in.

        Args:
            images: their bucket, key, etag, version_id and size, N rows.
            old, new: (N, E) distributions.
        """
        distances = jensen_shannon_distance(old, new)
        self._distances += float(distances.sum())
        steps = np.ceil(distances * RESOLUTION).astype(np.int64) - 1
        self._histogram += np.bincount(steps.clip(0), minlength=RESOLUTION)
        self._shift += (new - old).sum(axis=0)
        np.add.at(self._transitions, (old.argmax(axis=1), new.argmax(axis=1)), 1)
        top = np.argsort(-distances, kind="stable")[: self._most]
        rows = images.take(pa.array(top)).to_pylist()
        found = (
            ChangedImage(
                **row,
                distance=float(distances[index]),
                old=tuple(old[index].tolist()),
                new=tuple(new[index].tolist()),
            )
            for row, index in zip(rows, top, strict=True)
        )
        self._top = heapq.nsmallest(self._most, [*self._top, *found], key=_most_changed_first)

    def changes(self) -> Changes:
        """All that was added, at least one pair."""
        pairs = int(self._histogram.sum())
        up_to = np.cumsum(self._histogram)
        return Changes(
            pairs=pairs,
            changed=(pairs - int(np.trace(self._transitions))) / pairs,
            mean_distance=self._distances / pairs,
            quantiles={
                share: (int(np.searchsorted(up_to, share * pairs)) + 1) / RESOLUTION
                for share in _QUANTILES
            },
            histogram=self._histogram,
            shift=self._shift / pairs,
            transitions=self._transitions,
            most_changed=tuple(self._top),
        )


def _most_changed_first(image: ChangedImage) -> tuple[float, str, str, str]:
    return -image.distance, image.bucket, image.key, image.etag
