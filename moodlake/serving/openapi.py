"""The model server's API as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from moodlake import __version__
from moodlake.emotions import LabelSpace
from moodlake.inference.decoding import FORMATS
from moodlake.serving.limits import MAX_IMAGES
from moodlake.serving.options import OF_EXPLAINING, OF_SCORING
from moodlake.serving.schemas import options, ref, schemas

_DESCRIPTION = """Distributions over emotions: how an image reads to people, not what anyone in
it feels. EU law (AI Act, Art. 5(1)(f)) forbids inferring the emotions of people at work or in
education."""
_ERRORS = {
    400: "The request is not valid HTTP.",
    401: "The token is missing or wrong.",
    404: "The server has no such version of the model.",
    405: "The header Allow lists the allowed methods.",
    408: "The request did not arrive in time.",
    413: f"The request has more than {MAX_IMAGES} images, or exceeds the limit of bytes or time.",
    414: "The URL is too long.",
    422: "The body, an option, or the image to explain is invalid.",
    429: "Too many requests at once; retry after Retry-After seconds.",
    431: "The headers are too large.",
    500: "The server failed on this request; retry with fewer images.",
    503: "The model is not ready; retry after Retry-After seconds.",
    504: "The answer took too long; retry with fewer images.",
}


def document(space: LabelSpace, model: str, version: str) -> dict[str, Any]:
    """Return the document of a server of one model.

    Args:
        space: the model's own label space.
        model: the name in the server's URLs.
        version: an example of a version; the server may have others.
    """
    predict, explain = _predictions(space), _explanations(space)
    one_version = {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "A version of the model, which need not be the default one.",
        "schema": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": 40},
        "example": version,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "moodlake", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            f"/predictions/{model}": {"post": predict},
            f"/predictions/{model}/{{version}}": {
                "parameters": [one_version],
                "post": predict | {"operationId": "predictWithVersion"},
            },
            f"/explanations/{model}": {"post": explain},
            f"/explanations/{model}/{{version}}": {
                "parameters": [one_version],
                "post": explain | {"operationId": "explainWithVersion"},
            },
            "/ready": {"get": _probe("ready", "the server answers a known image correctly")},
            "/health": {"get": _probe("health", "all workers run, however busy they are")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(space),
        },
    }


def _predictions(space: LabelSpace) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Score one image or many. A rejected image has a reason and fails no other.",
        "parameters": _parameters(space, OF_SCORING),
        # describe=true needs no image, so that the body may be empty.
        "requestBody": {"content": _bodies("One image a part, under any name.", 0, "Instances")},
        "responses": {
            "200": _answer(
                "Results in the order of the images; or, with describe=true, the model.",
                *("Predictions", "Description"),
            )
        }
        | _errors(*_ERRORS),
    }


def _bodies(parts: str, fewest: int, instances: str) -> dict[str, Any]:
    form = {
        "description": f"{parts} A part named as an option, without a file name, sets that option.",
        "type": "object",
        "minProperties": fewest,
        "additionalProperties": {"type": "string", "format": "binary"},
    }
    types = [f"image/{name.lower()}" for name in FORMATS]
    one = {"schema": {"type": "string", "format": "binary", "minLength": fewest}}
    return {
        **dict.fromkeys((*types, "application/octet-stream"), one),
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": ref(instances)},
    }


def _explanations(space: LabelSpace) -> dict[str, Any]:
    answered = _answer("A heat map of where the model sees the emotion (Grad-CAM).", "Heat")
    answered["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": "explain",
        "summary": "Explain one image.",
        "parameters": _parameters(space, OF_EXPLAINING),
        "requestBody": {"required": True, "content": _bodies("One image.", 1, "Instance")},
        "responses": {"200": answered} | _errors(*_ERRORS),
    }


def _probe(name: str, condition: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": f"Check whether {condition}.",
        "security": [],
        "responses": {"200": _answer("Yes.", name.capitalize())}
        | _errors(400, 405, 413, 414, 429, 431, 503),
    }


def _parameters(space: LabelSpace, names: tuple[str, ...]) -> list[dict[str, Any]]:
    known = options(space)
    return [{"name": name, "in": "query", **known[name]} for name in names]


def _answer(description: str, *schemas: str) -> dict[str, Any]:
    refs = [ref(name) for name in schemas]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*codes: int) -> dict[str, Any]:
    return {str(code): _answer(_ERRORS[code], "Error") for code in codes}
