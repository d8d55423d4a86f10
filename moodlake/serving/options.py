"""Options of a request to the model server, such as faces=all: their values and their schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from moodlake.emotions import LabelSpace, label_space, label_space_names
from moodlake.errors import UserError
from moodlake.prediction import FaceMode
from moodlake.serving.limits import MAX_EXPLAINED, MAX_TOP_K


class BadRequest(UserError):
    """A request that the server cannot answer.

    Attributes:
        status: the HTTP status code; the message says what is wrong and what to send instead.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def _switch(value: Any) -> Any:
    if value not in ("true", "false", True, False):
        raise ValueError("use true or false")
    return value


def _count(value: Any) -> Any:
    if isinstance(value, str):
        digits = value.isascii() and value.isdecimal() and len(value) <= 3
        if not (digits and 1 <= int(value) <= MAX_TOP_K):
            raise ValueError(f"use a whole number from 1 to {MAX_TOP_K}")
    return value


def _space(value: Any) -> Any:
    return label_space(value) if isinstance(value, str) else value


Switch = Annotated[bool, BeforeValidator(_switch)]
Count = Annotated[int, Field(ge=1, le=MAX_TOP_K), BeforeValidator(_count)]
SpaceName = Annotated[
    LabelSpace,
    BeforeValidator(_space),
    WithJsonSchema({"type": "string", "enum": label_space_names()}),
]
Absent = SkipJsonSchema[None]
"""The value of an option that was not sent; no value that one can send."""


class Options(BaseModel):
    """The options of one request; the OpenAPI document repeats their descriptions."""

    model_config = ConfigDict(frozen=True)

    faces: FaceMode | Absent = Field(
        None, description="Part of an image to score; by default, the model's own face mode."
    )
    top_k: Count | Absent = Field(
        None, description="Also list this many emotions, most probable first."
    )
    label_space: SpaceName | Absent = Field(
        None, description="Label space of the distributions; by default, the model's own."
    )
    explain: Switch = Field(
        False,
        description="Also return a heat map for each image (Grad-CAM), in the model's own label "
        f"space; for at most {MAX_EXPLAINED} images.",
    )
    emotion: str | Absent = Field(
        None, description="Emotion to explain; by default, the dominant one."
    )
    image: Literal["png", "array"] = Field(
        "png", description="Return the heat map as a PNG image or as an array of numbers."
    )
    timings: Switch = Field(False, description="Also return the time of each step.")
    describe: Switch = Field(
        False, description="Return a description of the model instead of scoring; needs no image."
    )

    @classmethod
    def from_text(cls, given: Mapping[str, str], known: Sequence[str]) -> Self:
        """Read options from the text values of a query string, a form or JSON.

        Args:
            given: value by name.
            known: names that the address accepts.

        Raises:
            BadRequest: an unknown name or an invalid value.
        """
        for name in given:
            if name not in known:
                raise BadRequest(f"unknown option {name[:40]!r}; known: {', '.join(known)}")
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            reason = first.get("ctx", {}).get("error", first["msg"])
            raise BadRequest(f"{first['loc'][0]}={first['input'][:40]!r}: {reason}") from None


OPTIONS = tuple(Options.model_fields)
OF_EXPLAINING = ("faces", "emotion", "image")
"""Options of POST /explanations."""
OF_SCORING = tuple(name for name in OPTIONS if name != "image")
"""Options of POST /predictions."""
