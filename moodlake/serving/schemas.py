"""The JSON that the model server reads and writes: pydantic models that generate its schemas."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from moodlake.emotions import LabelSpace
from moodlake.prediction import FaceMode
from moodlake.reasons import Reason, Status
from moodlake.serving.limits import MAX_IMAGES
from moodlake.serving.options import OF_EXPLAINING, OF_SCORING, Absent, Options

_REFERENCE = "#/components/schemas/{model}"

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=1)]
Point = tuple[float, float]
Distribution = Annotated[
    dict[str, Probability], Field(description="Emotion -> probability; they sum to 1.")
]
EncodedImage = Annotated[
    Any, Field(description='Base64 text, or {"b64": "..."} with an optional name under "key".')
]


class Error(BaseModel):
    """Why a request failed, and what to send instead."""

    code: int
    message: str


class Ready(BaseModel):
    """The server answers a known image correctly."""

    status: Literal["ready"]
    digest: str


class Health(BaseModel):
    """All workers run."""

    status: Literal["Healthy"]


class Model(BaseModel):
    """The model that answered."""

    name: str
    version: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class EmotionSpace(BaseModel):
    """A named, ordered set of emotions."""

    name: str
    emotions: list[str]


class Description(BaseModel):
    """The model that is served."""

    model: Model
    label_space: EmotionSpace
    faces: FaceMode
    provenance: dict[str, Any]
    reference: dict[str, dict[str, Count]] | None = Field(
        description="Counts of the model's predictions for images like its training images; the "
        "emotions' are millionths of their probabilities."
    )


class Landmarks(BaseModel):
    """x and y of a face's parts; right and left are the person's."""

    right_eye: Point
    left_eye: Point
    nose: Point
    mouth: Point


class Face(BaseModel):
    """A face, in pixels of the original image."""

    left: int
    top: int
    width: int
    height: int
    confidence: Probability
    landmarks: Landmarks
    distribution: Distribution | None


class RankedEmotion(BaseModel):
    """An emotion among the most probable ones."""

    emotion: str
    probability: float


class Explanation(BaseModel):
    """A heat map of where the model sees an emotion (Grad-CAM)."""

    emotion: str
    heat: list[list[float]] = Field(description="Rows of the heat map, each number 0 to 1.")


class Heat(Explanation):
    """A heat map, and the model that it explains."""

    model: Model


class Prediction(BaseModel):
    """The result for one image: scored, or rejected with a reason."""

    name: str
    status: Status
    reason: Reason | None
    detail: str | None
    width: Pixels | None
    height: Pixels | None
    format: str | None
    faces: list[Face]
    distribution: Distribution | None
    dominant: str | None
    confidence: float | None
    entropy: float | None = Field(description="In nats.")
    brightness: Probability | None = Field(
        description="Mean luma (ITU-R BT.601) of the part of the image that was scored."
    )
    top: list[RankedEmotion] | None = None
    label_space_share: float | None = Field(
        None, description="Share of the distribution that the requested label space can express."
    )
    explanation: Explanation | None = None


class Predictions(BaseModel):
    """Results in the order of the images."""

    model: Model
    label_space: str
    predictions: list[Prediction]
    timings: dict[str, float] | Absent = Field(None, description="Milliseconds by step.")


class Instances(BaseModel):
    """Images to score; an invalid one is rejected alone."""

    instances: list[EncodedImage] = Field(max_length=MAX_IMAGES)


class Instance(BaseModel):
    """The image to explain."""

    instances: list[EncodedImage] = Field(min_length=1, max_length=1)


class _Generator(GenerateJsonSchema):
    """Writes neither titles nor defaults: they repeat names, and nulls that nobody can send."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


@cache
def _definitions() -> dict[str, Any]:
    models = (Error, Ready, Health, Description, Predictions, Heat, Instances, Instance, Options)
    _, generated = models_json_schema(
        [(model, "validation") for model in models],
        ref_template=_REFERENCE,
        schema_generator=_Generator,
    )
    return dict(generated["$defs"])


def ref(name: str) -> dict[str, str]:
    """A reference to one of `schemas`."""
    return {"$ref": _REFERENCE.format(model=name)}


def options(space: LabelSpace) -> dict[str, dict[str, Any]]:
    """Description and schema of each option of a request, for a model of this label space."""
    described = {}
    for name, schema in _definitions()["Options"]["properties"].items():
        rest = {key: value for key, value in schema.items() if key != "description"}
        described[name] = {"description": schema["description"], "schema": rest}
    described["emotion"]["schema"]["enum"] = list(space.emotions)
    return described


def schemas(space: LabelSpace) -> dict[str, Any]:
    """The schemas of the document by name, for a model of this label space."""
    known = options(space)
    found = {name: schema for name, schema in _definitions().items() if name != "Options"}
    for request, names in (("Instances", OF_SCORING), ("Instance", OF_EXPLAINING)):
        parameters = {
            "type": "object",
            "properties": {name: known[name]["schema"] for name in names},
            "additionalProperties": False,
        }
        properties = {**found[request]["properties"], "parameters": parameters}
        found[request] = {**found[request], "properties": properties}
    return found
