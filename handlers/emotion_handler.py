"""TorchServe handler: a thin adapter around moodlake.serving.

A request is one image as the body, many as the parts of a form, or JSON with base64. Every image
gets an answer of its own, in the order in which they were sent; one bad image never fails
another, and one bad request never fails the others of TorchServe's batch.

The way in (infra/nginx) sends every body whole, and tells what it was in two headers. Without
it, as over gRPC, TorchServe has taken forms apart before.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from handlers.metrics import emit
from moodlake.model import Model, ProbeFailed, Timings
from moodlake.serving.answers import answer, describe, score_requests
from moodlake.serving.explanations import explain
from moodlake.serving.options import BadRequest
from moodlake.serving.requests import ServerRequest, from_parts, parse_request

logger = logging.getLogger(__name__)

_PROBE, _CONTENT_TYPE, _QUERY = (
    f"x-moodlake-{name}" for name in ("probe", "content-type", "query")
)


class EmotionHandler:
    """One worker's model; TorchServe calls `initialize` once and `handle` for every batch."""

    def initialize(self, context: Any) -> None:
        """Load the bundle that TorchServe unpacked the archive to, and score one image."""
        self.model = Model.load(Path(context.system_properties["model_dir"]))
        self.model.probe()

    def handle(self, requests: list[dict[str, Any]], context: Any) -> list[str | bytes]:
        """Answers, one for each request of the batch: JSON, but for pictures of explanations."""
        answers: list[str | bytes] = [""] * len(requests)
        read: dict[int, ServerRequest] = {}
        for index, parts in enumerate(requests):
            headers = context.get_all_request_header(index)
            context.set_response_content_type(index, "application/json")
            try:
                if digest := _header(headers, _PROBE):
                    answers[index] = json.dumps(self._probe(digest))
                elif (request := _read(parts, headers)).options.describe:
                    answers[index] = json.dumps(describe(self.model))
                elif headers.get("explain") == "True":
                    content_type, answers[index] = explain(self.model, request)
                    context.set_response_content_type(index, content_type)
                else:
                    read[index] = request
            except BadRequest as error:
                context.set_response_status(error.status, "Bad Request", index)
                answers[index] = json.dumps({"code": error.status, "message": str(error)})
            except ProbeFailed as error:
                context.set_response_status(503, "Not Ready", index)
                answers[index] = json.dumps({"code": 503, "message": str(error)})
            except Exception:  # a fault of ours must not reach the other requests of the batch
                logger.exception("a request could not be read")
                context.set_response_status(500, "Internal Server Error", index)
                answers[index] = json.dumps({"code": 500, "message": "see the server's log"})
        timings = Timings()
        scored = score_requests(self.model, list(read.values()), timings)
        for (index, request), predictions in zip(read.items(), scored, strict=True):
            answers[index] = json.dumps(answer(self.model, request, predictions, timings))
        emit(context.metrics, scored, timings)
        return answers

    def _probe(self, digest: str) -> dict[str, Any]:
        """Ready means: the model that is expected gives the answer it gave when it was packed."""
        if digest != self.model.identity.digest:
            raise ProbeFailed(f"model {self.model.identity.digest} is served, not {digest}")
        self.model.probe()
        return {"status": "ready", "digest": digest}


def _read(parts: dict[str, Any], headers: dict[str, Any]) -> ServerRequest:
    content_type = _header(headers, _CONTENT_TYPE)
    if content_type is not None:
        body = parts.get("body", b"")
        return parse_request(bytes(body), content_type, _header(headers, _QUERY) or "")
    if not all(isinstance(part, bytes | bytearray) for part in parts.values()):
        raise BadRequest(
            "images are sent as bytes: one as the body, of type application/octet-stream or "
            "image/*, or several as parts of a form"
        )
    return from_parts(parts)


def _header(headers: dict[str, Any], name: str) -> str | None:
    """TorchServe keeps the case in which a header was sent."""
    return next((value for key, value in headers.items() if key.lower() == name), None)
