"""What moodlake says of one image: the same object in process, over HTTP and in the table."""

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
    """Which model made a row."""

    name: str
    version: str
    digest: str


class FaceMode(StrEnum):
    """Which part of an image is scored."""

    NONE = "none"
    """The whole image, as it is."""
    LARGEST = "largest"
    """The largest face."""
    ALL = "all"
    """Every face; the image's own distribution is that of the largest one."""


@dataclass(frozen=True)
class Face:
    """A face, in pixels of the original image.

    Attributes:
        left, top, width, height: the box from the brows to the chin, cut off at the image's border.
        confidence: 0 to 1; higher is surer.
        landmarks: x and y of `LANDMARKS`, right and left being the person's; may lie
            beyond the border where the face does.
    """

    left: int
    top: int
    width: int
    height: int
    confidence: float
    landmarks: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FacePrediction:
    """A found face, a `Face` with its distribution, if it was scored."""

    left: int
    top: int
    width: int
    height: int
    confidence: float
    landmarks: Mapping[str, tuple[float, float]]
    distribution: dict[str, float] | None = None

    @classmethod
    def of(cls, face: Face, distribution: dict[str, float] | None) -> Self:
        return cls(**vars(face), distribution=distribution)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From its plain values; unknown keys are left aside, and an older server names no
        landmarks."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        landmarks = values.get("landmarks", {})
        known["landmarks"] = {name: (x, y) for name, (x, y) in landmarks.items()}
        return cls(**known)


@dataclass(frozen=True)
class Prediction:
    """One image's outcome.

    Attributes:
        status: scored, or rejected with a `reason` and a `detail` for a person.
        width, height, format: of the original image, upright; None if its header was not read.
        faces: all that were found, largest first; empty where none were looked for.
        distribution: emotion -> probability, sums to 1; None if rejected.
        dominant: the most probable emotion; `confidence` is its probability.
        entropy: of the distribution, in nats.
        brightness: of what was read for it, 0 to 1; see `Preprocessing.brightness`. None if
            rejected, and from an older server.
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
        """A scored image from its distribution (E,) over `space`."""
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
        """An image that could not be scored."""
        return cls(
            Status.REJECTED,
            reason=error.reason,
            detail=error.detail,
            width=error.width,
            height=error.height,
            format=error.format,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "faces": [dict(vars(face)) for face in self.faces]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys are left aside so that servers may add some."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["status"] = Status(known["status"])
        known["reason"] = Reason(known["reason"]) if known.get("reason") else None
        known["faces"] = tuple(map(FacePrediction.from_dict, known.get("faces", ())))
        return cls(**known)


def as_dict(probabilities: NDArray[np.floating], space: LabelSpace) -> dict[str, float]:
    """A distribution (E,) as emotion -> probability, rounded to six decimals."""
    rounded = [round(float(value), _DECIMALS) for value in probabilities]
    return dict(zip(space.emotions, rounded, strict=True))
