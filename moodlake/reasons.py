"""Reasons why an image is not scored, shared by the server, the scorer, the gate and reports."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The outcome for one input."""

    SCORED = "scored"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why an input is rejected: a code to query and group by."""

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
        """Whether the next run may succeed, and therefore retries the object."""
        return self in (Reason.VANISHED, Reason.UNREADABLE)

    @property
    def is_broken(self) -> bool:
        """Whether the input is damaged or the model failed on it.

        If this happens to nearly all inputs, suspect their source or the model.
        """
        return not self.is_retryable and self is not Reason.NO_FACE

    @property
    def explanation(self) -> str:
        """The reason as a sentence for people."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reason.EMPTY: "The file has no bytes.",
    Reason.TOO_LARGE: "The file is larger than the limit.",
    Reason.TOO_MANY_PIXELS: "The image has more pixels than the limit and was not decoded.",
    Reason.NOT_AN_IMAGE: "The file is not an image, whatever its name.",
    Reason.TRUNCATED: "The image is damaged or incomplete.",
    Reason.UNSUPPORTED_FORMAT: "The image format is not supported.",
    Reason.NO_FACE: "No face was found, and the model scores faces only.",
    Reason.VANISHED: "The object was listed, but deleted or changed before it was read.",
    Reason.UNREADABLE: "The object is listed, but the store does not return it.",
    Reason.MODEL_ERROR: "The model failed on this image.",
}


def outcomes(counts: Mapping[str, int]) -> str:
    """Return a text such as "9 scored, 3 rejected (2 no_face, 1 empty)".

    Args:
        counts: number of inputs by reason, and under "scored".
    """
    rejected = {name: count for name, count in counts.items() if name != Status.SCORED}
    text = f"{counts.get(Status.SCORED, 0)} scored, {sum(rejected.values())} rejected"
    if rejected:
        by_count = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
        text += f" ({', '.join(f'{count} {name}' for name, count in by_count)})"
    return text


class Rejected(Exception):
    """An input that cannot be scored.

    Attributes:
        reason: the code to group by.
        detail: the cause in this input, for people.
        width, height, format: from the image's header; None if it could not be read.
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
        """Return a copy without a traceback, whose frames would keep the image's bytes alive."""
        return Rejected(
            self.reason, self.detail, width=self.width, height=self.height, format=self.format
        )
