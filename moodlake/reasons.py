"""Why an image was not scored: the one list that server, scorer, gate and report share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """What became of an input."""

    SCORED = "scored"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why an input was rejected. Query and group by the value; show people `explanation`."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNSUPPORTED_FORMAT = "unsupported_format"
    NO_FACE = "no_face"
    VANISHED = "vanished"
    UNREADABLE = "unreadable"
    MODEL_ERROR = "model_error"

    @property
    def is_retryable(self) -> bool:
        """It may be otherwise at the next run, which therefore tries the object again."""
        return self in (Reason.VANISHED, Reason.UNREADABLE)

    @property
    def is_broken(self) -> bool:
        """The input is no whole image, or the model failed on it: where this befalls nearly all,
        something is wrong upstream or with the model."""
        return not self.is_retryable and self is not Reason.NO_FACE

    @property
    def explanation(self) -> str:
        """One sentence for a person."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reason.EMPTY: "The file has no bytes.",
    Reason.TOO_LARGE: "The file has more bytes than the limit allows.",
    Reason.TOO_MANY_PIXELS: "The image has more pixels than the limit allows; it was not decoded.",
    Reason.NOT_AN_IMAGE: "The bytes are not an image, whatever the name says.",
    Reason.TRUNCATED: "The image is damaged or ends too early.",
    Reason.UNSUPPORTED_FORMAT: "The image format is not one of those that are read.",
    Reason.NO_FACE: "No face was found, and the model reads faces.",
    Reason.VANISHED: "The object was listed but gone, or changed, when it was read.",
    Reason.UNREADABLE: "The object is listed, but the store does not hand it out.",
    Reason.MODEL_ERROR: "The model failed on this image.",
}


def outcomes(counts: Mapping[str, int]) -> str:
    """In words: how many were scored, and how many rejected for which reasons.

    Args:
        counts: by reason, and of what was scored.
    """
    rejected = {name: count for name, count in counts.items() if name != Status.SCORED}
    told = f"{counts.get(Status.SCORED, 0)} scored, {sum(rejected.values())} rejected"
    if rejected:
        by_count = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
        told += f" ({', '.join(f'{count} {name}' for name, count in by_count)})"
    return told


class Rejected(Exception):
    """An input that cannot be scored.

    Attributes:
        reason: the code to group by.
        detail: what was found, for the person who looks into it.
        width, height, format: what the header told before the rejection, if it could be read.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        width: int | None = None,
        height: int | None = None,
        format: str | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.width = width
        self.height = height
        self.format = format

    def as_value(self) -> Rejected:
        """The same without a traceback, whose frames would keep the image's bytes alive."""
        return Rejected(
            self.reason, self.detail, width=self.width, height=self.height, format=self.format
        )
