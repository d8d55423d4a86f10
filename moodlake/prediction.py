"""The prediction for one image: the same object in process, over HTTP and in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace, dominant, entropy
from moodlake.reasons import Reason, Rejected, Status

_DECIMALS = 6

LANDMARKS = ("right_eye", "left_eye", "nose", "mouth")
"""The person's right eye, the left one, the tip of the nose, the middle of the mouth."""


@dataclass(frozen=True)
class ModelIdentity:
    """The model that made a prediction."""

    name: str
    version: str
    digest: str


class FaceMode(StrEnum):
    """The part of an image that is scored."""

    NONE = "none"
    """The whole image."""
    LARGEST = "largest"
    """The largest face."""
    ALL = "all"
    """Every face; the image's own distribution is that of the largest one."""


@dataclass(frozen=True)
class Face:
    """A face, in pixels of the original image.

    Attributes:
        left, top, width, height: the box from the brows to the chin, clipped to the image.
        confidence: the detector's score, 0 to 1.
        landmarks: x and y of each of `LANDMARKS`; outside the image where the face extends beyond
            it.
    """

    left: int
    top: int
    width: int
    height: int
    confidence: float
    landmarks: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FacePrediction:
    """A `Face` with its distribution; None if this face was not scored."""

    left: int
    top: int
    width: int
    height: int
    confidence: float
    landmarks: Mapping[str, tuple[float, float]]
    distribution: dict[str, float] | None = None

    @classmethod
    def of(cls, face: Face, distribution: dict[str, float] | None) -> Self:
        """Combine a face with its distribution."""
        return cls(**vars(face), distribution=distribution)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read JSON values; ignores unknown keys, and accepts older servers without landmarks."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        landmarks = values.get("landmarks", {})
        known["landmarks"] = {name: (x, y) for name, (x, y) in landmarks.items()}
        return cls(**known)


@dataclass(frozen=True)
class Prediction:
    """The outcome for one image.

    Attributes:
        status: scored, or rejected with a `reason` and a `detail` for a person.
        width, height, format: of the original image, upright; None if its header is unreadable.
        faces: all faces found, largest first; empty with FaceMode.NONE.
        distribution: emotion -> probability, sums to 1; None if rejected.
        dominant: the most probable emotion; `confidence` is its probability.
        entropy: of the distribution, in nats.
        brightness: of the part that was scored, 0 to 1; see `Preprocessing.brightness`. None if
            rejected, or from an older server.
    """

    status: Status
    reason: Reason | None = None
    detail: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    faces: tuple[FacePrediction, ...] = ()
    distribution: dict[str, float] | None = None
    dominant: str | None = None
    confidence: float | None = None
    entropy: float | None = None
    brightness: float | None = None

    @classmethod
    def scored(
        cls,
        probabilities: NDArray[np.floating],
        space: LabelSpace,
        *,
        width: int,
        height: int,
        format: str,
        faces: tuple[FacePrediction, ...] = (),
        brightness: float | None = None,
    ) -> Self:
        """Build the prediction of a scored image from its distribution (E,) over `space`."""
        return cls(
            Status.SCORED,
            width=width,
            height=height,
            format=format,
            faces=faces,
            distribution=as_dict(probabilities, space),
            dominant=dominant(probabilities, space),
            confidence=round(float(np.max(probabilities)), _DECIMALS),
            entropy=round(float(entropy(probabilities)), _DECIMALS),
            brightness=None if brightness is None else round(brightness, _DECIMALS),
        )

    @classmethod
    def rejected(cls, error: Rejected) -> Self:
        """Build the prediction of an image that could not be scored."""
        return cls(
            Status.REJECTED,
            reason=error.reason,
            detail=error.detail,
            width=error.width,
            height=error.height,
            format=error.format,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self), "faces": [dict(vars(face)) for face in self.faces]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the values of `to_dict`; ignores unknown keys, which newer servers may add."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["status"] = Status(known["status"])
        known["reason"] = Reason(known["reason"]) if known.get("reason") else None
        known["faces"] = tuple(map(FacePrediction.from_dict, known.get("faces", ())))
        return cls(**known)


def as_dict(probabilities: NDArray[np.floating], space: LabelSpace) -> dict[str, float]:
    """Return a distribution (E,) as emotion -> probability, rounded to six decimals."""
    rounded = [round(float(value), _DECIMALS) for value in probabilities]
    return dict(zip(space.emotions, rounded, strict=True))
