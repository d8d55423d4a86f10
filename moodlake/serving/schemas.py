"""The JSON that the model server reads and writes, as schemas of its OpenAPI document."""

from __future__ import annotations

from typing import Any

from moodlake.emotions import LabelSpace, label_space_names
from moodlake.prediction import LANDMARKS, FaceMode
from moodlake.reasons import Reason, Status
from moodlake.serving.limits import MAX_EXPLAINED, MAX_IMAGES, MAX_TOP_K
from moodlake.serving.options import OF_EXPLAINING, OF_SCORING

_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_NUMBER = {"type": ["number", "null"]}
_NULLABLE_COUNT = {"type": ["integer", "null"], "minimum": 1}
_DISTRIBUTION = {
    "description": "Emotion -> probability; they sum to 1.",
    "type": "object",
    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
}


def ref(name: str) -> dict[str, str]:
    """To one of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def options(space: LabelSpace) -> dict[str, dict[str, Any]]:
    """Description and schema of each option of a request, for a model of this label space."""
    return {
        "faces": {
            "description": "Which part of an image is scored; the model's own way if not given.",
            "schema": {"type": "string", "enum": [mode.value for mode in FaceMode]},
        },
        "top_k": {
            "description": "Also list this many emotions, most probable first.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K},
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
            f"of at most {MAX_EXPLAINED} images, and told in the model's own label space.",
            "schema": {"type": "boolean"},
        },
        "describe": {
            "description": "Tell what is served, instead of scoring; no image is needed then.",
            "schema": {"type": "boolean"},
        },
        "image": {
            "description": "The heat map as a picture, or as numbers.",
            "schema": {"type": "string", "enum": ["png", "array"]},
        },
        "emotion": {
            "description": "What is explained; the dominant emotion if not given.",
            "schema": {"type": "string", "enum": list(space.emotions)},
        },
    }


def schemas(space: LabelSpace) -> dict[str, Any]:
    """All by name, for a model of this label space."""
    text, number = {"type": "string"}, {"type": "number"}
    digest = {**text, "pattern": "^[0-9a-f]{64}$"}
    model = _object({"name": text, "version": text, "digest": digest})
    return {
        "Error": _object({"code": {"type": "integer"}, "message": text}),
        "Ready": _object({"status": {"const": "ready"}, "digest": text}),
        "Health": _object({"status": {"const": "Healthy"}}),
        "Model": model,
        "Instances": _instances(space, 0, MAX_IMAGES, OF_SCORING),
        "Instance": _instances(space, 1, 1, OF_EXPLAINING),
        "Description": _object(
            {
                "model": ref("Model"),
                "label_space": _object(
                    {"name": text, "emotions": {"type": "array", "items": text}}
                ),
                "faces": options(space)["faces"]["schema"],
                "provenance": {"type": "object"},
                "reference": {"anyOf": [_reference(), {"type": "null"}]},
            }
        ),
        "Predictions": _object(
            {
                "model": ref("Model"),
                "label_space": text,
                "predictions": {"type": "array", "items": ref("Prediction")},
                "timings": {"type": "object", "additionalProperties": number},
            },
            "timings",
        ),
        "Prediction": _prediction(),
        "Face": _face(),
        "Heat": _object({"model": ref("Model"), **_heat()}),
    }


def _reference() -> dict[str, Any]:
    counts = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
    return {
        "description": "Counts of images like those that the model was trained on, by what it "
        "reads in them; the emotions' are millionths of their probabilities.",
        "type": "object",
        "additionalProperties": counts,
    }


def _instances(space: LabelSpace, fewest: int, most: int, names: tuple[str, ...]) -> dict[str, Any]:
    known = options(space)
    instance = {
        "description": 'Base64 text, or {"b64": "..."} with an optional name under "key"; '
        f"whatever is neither is {'rejected on its own' if most > 1 else 'refused'}."
    }
    return _object(
        {
            "instances": {
                "type": "array",
                "minItems": fewest,
                "maxItems": most,
                "items": instance,
            },
            "parameters": {
                "type": "object",
                "properties": {name: known[name]["schema"] for name in names},
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
            "faces": {"type": "array", "items": ref("Face")},
            "distribution": {"anyOf": [_DISTRIBUTION, {"type": "null"}]},
            "dominant": _NULLABLE_TEXT,
            "confidence": _NULLABLE_NUMBER,
            "entropy": {**_NULLABLE_NUMBER, "description": "In nats."},
            "brightness": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "Mean luma (ITU-R BT.601) of what the model read.",
            },
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
