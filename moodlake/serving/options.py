"""What a caller may ask of the model server, beside sending images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from moodlake.emotions import LabelSpace, label_space
from moodlake.errors import UserError
from moodlake.prediction import FaceMode
from moodlake.serving.limits import MAX_TOP_K


class BadRequest(UserError):
    """A request that cannot be answered as it is.

    Attributes:
        status: HTTP's code for it; the message says what was wrong and what to send.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Options:
    """One request's options.

    Attributes:
        faces: which part of an image is scored; None for the model's own way.
        top_k: also list this many emotions, most probable first.
        label_space: tell the distributions over this space; None for the model's own.
        explain: also tell where the model sees an emotion in each image.
        emotion: the emotion that an explanation is about; None for the dominant one.
        image: an explanation as "png" or as "array".
        timings: also tell how long each step took.
        describe: tell what the model is, instead of scoring.
    """

    faces: FaceMode | None = None
    top_k: int | None = None
    label_space: LabelSpace | None = None
    explain: bool = False
    emotion: str | None = None
    image: str = "png"
    timings: bool = False
    describe: bool = False

    @classmethod
    def from_text(cls, given: Mapping[str, str], known: Sequence[str]) -> Self:
        """From names and values as query strings, forms and JSON carry them.

        Args:
            given: value by name.
            known: names that the address takes.

        Raises:
            BadRequest: a name that is no option, or a value it cannot have.
        """
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name not in known:
                raise BadRequest(f"unknown option {name[:40]!r}; known: {', '.join(known)}")
            try:
                values[name] = _READ[name](text)
            except ValueError as error:
                raise BadRequest(f"{name}={text[:40]!r}: {error}") from None
        return cls(**values)


def _one_of(known: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text not in known:
            raise ValueError(f"use {' or '.join(known)}")
        return known[text]

    return read


def _top_k(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 3):
        raise ValueError(f"use a whole number from 1 to {MAX_TOP_K}")
    if not 1 <= int(text) <= MAX_TOP_K:
        raise ValueError(f"use a whole number from 1 to {MAX_TOP_K}")
    return int(text)


_SWITCH = _one_of({"true": True, "false": False})
_READ: dict[str, Callable[[str], Any]] = {
    "faces": _one_of({mode.value: mode for mode in FaceMode}),
    "top_k": _top_k,
    "label_space": label_space,
    "explain": _SWITCH,
    "emotion": str,
    "image": _one_of({"png": "png", "array": "array"}),
    "timings": _SWITCH,
    "describe": _SWITCH,
}
OPTIONS = tuple(field.name for field in fields(Options))
OF_EXPLAINING = ("faces", "emotion", "image")
OF_SCORING = tuple(name for name in OPTIONS if name != "image")
"""What each kind of request takes."""
