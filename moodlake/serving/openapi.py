"""The model server's API as an OpenAPI 3.1 document, from the same facts as the server's code."""

from __future__ import annotations

from typing import Any

from moodlake import __version__
from moodlake.blazeface import LANDMARKS
from moodlake.emotions import LabelSpace, label_space_names
from moodlake.faces import FaceMode
from moodlake.images import FORMATS
from moodlake.reasons import Reason, Status
from moodlake.serving.explanations import MOST_EXPLAINED
from moodlake.serving.options import MOST_TOP_K
from moodlake.serving.requests import MAX_IMAGES

_DESCRIPTION = """Distributions over emotions: how an image reads to people, not what anyone in
it feels. EU law (AI Act, Art. 5(1)(f)) forbids inferring the emotions of people at work or in
education."""
_NAMES: dict[str, dict[str, Any]] = {
    "faces": {
        "description": "Which part of an image is scored; the model's own way if not given.",
        "schema": {"type": "string", "enum": [mode.value for mode in FaceMode]},
    },
    "top_k": {
        "description": "Also list this many emotions, most probable first.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_TOP_K},
    },
    "label_space": {
        "description": "Tell the distributions over these emotions.",
        "schema": {"type": "string", "enum": label_space_names()},
    },
    "timings": {
        "description": "Also tell the time that each step took.",
        "schema": {"type": "boolean"},
    },
    "explain": {
        "description": "Also tell where the model sees the emotion in each image (Grad-CAM); "
        f"of at most {MOST_EXPLAINED} images, and told in the model's own label space.",
        "schema": {"type": "boolean"},
    },
    "image": {
        "description": "The heat map as a picture, or as numbers.",
        "schema": {"type": "string", "enum": ["png", "array"]},
    },
}
_OF_SCORING = ("faces", "top_k", "label_space", "timings", "explain")
_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_NUMBER = {"type": ["number", "null"]}
_NULLABLE_COUNT = {"type": ["integer", "null"], "minimum": 1}
_DISTRIBUTION = {
    "description": "Emotion -> probability; they sum to 1.",
    "type": "object",
    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
}
_ERRORS = {
    400: "This is no HTTP that can be read.",
    401: "No token, or a wrong one.",
    405: "Another method than the header Allow names.",
    408: "The request did not arrive in time.",
    413: f"More than {MAX_IMAGES} images, or more bytes or time than a request may have.",
    414: "The address is too long.",
    422: "The body or an option cannot be read, or the image that is to be explained.",
    431: "The headers are too large.",
    429: "Too many requests at once: try again after Retry-After seconds.",
    500: "This request could not be answered: try again, with fewer images.",
    503: "The model is not ready: try again after Retry-After seconds.",
    504: "No answer in time: try again, with fewer images.",
}


def document(space: LabelSpace, model: str) -> dict[str, Any]:
    """The document of a server of one model.

    Args:
        space: the model's own label space.
        model: the name that it is served under.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "moodlake", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            f"/predictions/{model}": {"post": _predictions(space)},
            f"/explanations/{model}": {"post": _explanations(space)},
            "/ready": {"get": _ready()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _predictions(space: LabelSpace) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Score one image, or many; a bad one is answered with its reason.",
        "parameters": [*map(_parameter, _OF_SCORING), _emotion(space)],
        "requestBody": {
            "required": True,
            "content": {
                **_image_bodies(),
                "multipart/form-data": {
                    "schema": {
                        "description": "An image a part, of any name. A part that has the name of "
                        "an option, and no file name, is that option.",
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "string", "format": "binary"},
                    }
                },
                "application/json": {"schema": _ref("Instances")},
            },
        },
        "responses": {"200": _answer("Answers in the order of the images.", "Predictions")}
        | _errors(*_ERRORS),
    }


def _emotion(space: LabelSpace) -> dict[str, Any]:
    return {
        "name": "emotion",
        "in": "query",
        "description": "What is explained; the dominant emotion if not given.",
        "schema": {"type": "string", "enum": list(space.emotions)},
    }


def _explanations(space: LabelSpace) -> dict[str, Any]:
    answered = _answer("Where the model sees the emotion (Grad-CAM).", "Heat")
    answered["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": "explain",
        "summary": "Explain one image.",
        "parameters": [_parameter("faces"), _emotion(space), _parameter("image")],
        "requestBody": {"required": True, "content": _image_bodies()},
        "responses": {"200": answered} | _errors(*_ERRORS),
    }


def _ready() -> dict[str, Any]:
    return {
        "operationId": "ready",
        "summary": "Whether the expected model answers a known image as it should.",
        "security": [],
        "responses": {"200": _answer("It does.", "Ready")} | _errors(400, 405, 414, 431, 503),
    }


def _image_bodies() -> dict[str, Any]:
    types = [f"image/{name.lower()}" for name in FORMATS]
    body = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    return dict.fromkeys((*types, "application/octet-stream"), body)


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", **_NAMES[name]}


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(schema)}}
    return {"description": description, "content": content}


def _errors(*codes: int) -> dict[str, Any]:
    return {str(code): _answer(_ERRORS[code], "Error") for code in codes}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _schemas() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    digest = {**text, "pattern": "^[0-9a-f]{64}$"}
    model = _object({"name": text, "version": text, "digest": digest})
    return {
        "Error": _object({"code": {"type": "integer"}, "message": text}),
        "Ready": _object({"status": {"const": "ready"}, "digest": text}),
        "Model": model,
        "Instances": _instances(),
        "Predictions": _object(
            {
                "model": _ref("Model"),
                "label_space": text,
                "predictions": {"type": "array", "items": _ref("Prediction")},
                "timings": {"type": "object", "additionalProperties": number},
            },
            "timings",
        ),
        "Prediction": _prediction(),
        "Face": _face(),
        "Heat": _object({"model": _ref("Model"), **_heat()}),
    }


def _instances() -> dict[str, Any]:
    instance = {
        "description": 'Base64 text, or {"b64": "..."} with an optional name under "key"; '
        "whatever is neither is rejected on its own."
    }
    return _object(
        {
            "instances": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_IMAGES,
                "items": instance,
            },
            "parameters": {
                "type": "object",
                "properties": {name: _NAMES[name]["schema"] for name in _OF_SCORING}
                | {"emotion": {"type": "string"}},
                "additionalProperties": False,
            },
        },
        "parameters",
    )


def _prediction() -> dict[str, Any]:
    reasons = [reason.value for reason in Reason]
    top = _object({"emotion": {"type": "string"}, "probability": {"type": "number"}})
    return _object(
        {
            "name": {"type": "string"},
            "status": {"enum": [status.value for status in Status]},
            "reason": {"enum": [*reasons, None]},
            "detail": _NULLABLE_TEXT,
            "width": _NULLABLE_COUNT,
            "height": _NULLABLE_COUNT,
            "format": _NULLABLE_TEXT,
            "faces": {"type": "array", "items": _ref("Face")},
            "distribution": {"anyOf": [_DISTRIBUTION, {"type": "null"}]},
            "dominant": _NULLABLE_TEXT,
            "confidence": _NULLABLE_NUMBER,
            "entropy": {**_NULLABLE_NUMBER, "description": "In nats."},
            "top": {"type": ["array", "null"], "items": top},
            "label_space_share": {
                **_NULLABLE_NUMBER,
                "description": "How much of the distribution the asked label space can tell.",
            },
            "explanation": {"anyOf": [_object(_heat()), {"type": "null"}]},
        },
        "top",
        "label_space_share",
        "explanation",
    )


def _heat() -> dict[str, Any]:
    """Rows of the heat map, each number 0 to 1."""
    rows = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    return {"emotion": {"type": "string"}, "heat": rows}


def _face() -> dict[str, Any]:
    pixels = {"type": "integer"}
    point = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return _object(
        {
            **dict.fromkeys(("left", "top", "width", "height"), pixels),
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "landmarks": _object(dict.fromkeys(LANDMARKS, point)),
            "distribution": {"anyOf": [_DISTRIBUTION, {"type": "null"}]},
        }
    )
