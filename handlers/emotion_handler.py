"""TorchServe handler: a thin adapter around moodlake.model.

A request is one image as the body, or many as multipart parts. Every image gets an answer of its
own, in the order of the parts; one bad image never fails another, or the request.

Options, as multipart fields or as request headers with the prefix X-Moodlake- (TorchServe does
not hand query parameters on): `faces` = none | largest | all; `describe` = true for what the
model is, instead of predictions.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from moodlake.faces import FaceMode
from moodlake.model import Model

_OPTIONS = ("faces", "describe")


class EmotionHandler:
    """One worker's model; TorchServe calls `initialize` once and `handle` for every batch."""

    def initialize(self, context: Any) -> None:
        """Load the bundle that TorchServe unpacked the archive to."""
        self.model = Model.load(Path(context.system_properties["model_dir"]))

    def handle(self, requests: list[dict[str, Any]], context: Any) -> list[str]:
        """JSON answers, one for each request of the batch."""
        answers = []
        for index, request in enumerate(requests):
            context.set_response_content_type(index, "application/json")
            try:
                options = _options(request, context.get_all_request_header(index))
                answers.append(json.dumps(self._answer(request, options), ensure_ascii=False))
            except ValueError as error:
                context.set_response_status(400, "Bad Request", index)
                answers.append(json.dumps({"code": 400, "message": str(error)}))
        return answers

    def _answer(self, request: dict[str, Any], options: dict[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = {"model": dataclasses.asdict(self.model.identity)}
        if options.get("describe") == "true":
            space = self.model.space
            return answer | {
                "label_space": {"name": space.name, "emotions": space.emotions},
                "faces": self.model.faces,
                "provenance": self.model.provenance,
            }
        images = {name: part for name, part in request.items() if name not in _OPTIONS}
        if not images:
            raise ValueError("no image: send one as the body, or several as multipart parts")
        if not all(isinstance(part, bytes | bytearray) for part in images.values()):
            raise ValueError(
                "images are sent as bytes: one as the body, of type application/octet-stream or "
                "image/*, or several as multipart parts"
            )
        predictions = self.model.score(
            [bytes(part) for part in images.values()], faces=_face_mode(options.get("faces"))
        )
        return answer | {
            "predictions": [
                {"name": name, **prediction.to_dict()}
                for name, prediction in zip(images, predictions, strict=True)
            ]
        }


def _options(request: dict[str, Any], headers: dict[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    given = {name: lowered.get(f"x-moodlake-{name}", request.get(name)) for name in _OPTIONS}
    return {name: _text(value) for name, value in given.items() if value is not None}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes | bytearray) else str(value)


def _face_mode(text: str | None) -> FaceMode | None:
    if text is None:
        return None
    try:
        return FaceMode(text)
    except ValueError:
        known = ", ".join(FaceMode)
        raise ValueError(f"faces={text!r} is not one of {known}") from None
