"""The model server's API as an OpenAPI 3.1 document, from the same facts as the server's code."""

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
    400: "This is no HTTP that can be read.",
    401: "No token, or a wrong one.",
    404: "No such version of the model is served.",
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


def document(space: LabelSpace, model: str, version: str) -> dict[str, Any]:
    """The document of a server of one model.

    Args:
        space: the model's own label space.
        model: the name that it is served under.
        version: of the model, as an example: others may be served beside it.
    """
    predict, explain = _predictions(space), _explanations(space)
    one_version = {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "One that is served, whichever is the default.",
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
            "/ready": {"get": _probe("ready", "a known image is answered as it should be")},
            "/health": {"get": _probe("health", "all workers are there, however busy they are")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(space),
        },
    }


def _predictions(space: LabelSpace) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Score one image, or many; a bad one is answered with its reason.",
        "parameters": _parameters(space, OF_SCORING),
        # All of it may be left out where describe=true asks for no predictions.
        "requestBody": {"content": _bodies("An image a part, of any name.", 0, "Instances")},
        "responses": {
            "200": _answer(
                "Answers in the order of the images, or what is served.",
                *("Predictions", "Description"),
            )
        }
        | _errors(*_ERRORS),
    }


def _bodies(parts: str, fewest: int, instances: str) -> dict[str, Any]:
    form = {
        "description": f"{parts} A part that has the name of an option, and no file name, is that "
        "option.",
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
    answered = _answer("Where the model sees the emotion (Grad-CAM).", "Heat")
    answered["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": "explain",
        "summary": "Explain one image.",
        "parameters": _parameters(space, OF_EXPLAINING),
        "requestBody": {"required": True, "content": _bodies("One image.", 1, "Instance")},
        "responses": {"200": answered} | _errors(*_ERRORS),
    }


def _probe(name: str, what: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": f"Whether {what}.",
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
