"""What every data set adapter returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace
from moodlake.faces import FaceMode


class DatasetError(Exception):
    """A data set that cannot be used; the message names the file, the row and the cure."""


@dataclass(frozen=True)
class Annotated:
    """Images with the votes of their annotators.

    Attributes:
        space: the label space of the votes.
        faces: which part of a new image a model of this data reads: FaceMode.LARGEST where the
            images are face crops.
        ids: (N,) unique names, for messages.
        pixels: (N, h, w) grey or (N, h, w, 3) RGB, uint8.
        votes: (N, E) counts, those of outliers removed; every row has one at least.
        splits: (N,) "train" or "valid".
        dropped: how many rows were left out, by reason.
    """

    space: LabelSpace
    faces: FaceMode
    ids: list[str]
    pixels: NDArray[np.uint8]
    votes: NDArray[np.int64]
    splits: list[str]
    dropped: dict[str, int] = field(default_factory=dict)
