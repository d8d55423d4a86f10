"""TorchServe handler: a thin adapter around moodlake.serving.

A request holds one image as its body, several as parts of a form, or JSON with base64. The response
has one prediction for each image, in order. Neither a bad image nor a bad request affects others.

The gateway (infra/nginx) buffers each body and forwards its content type and query in two headers.
Without the gateway, as over gRPC, TorchServe has already parsed forms.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handlers.metrics import Registry, emit
from moodlake.inference.blazeface import warm_up
from moodlake.inference.model import Model, ProbeFailed
from moodlake.prediction import FaceMode
from moodlake.serving.answers import answer, describe
from moodlake.serving.explanations import explain_request
from moodlake.serving.options import OF_EXPLAINING, OF_SCORING, BadRequest
from moodlake.serving.requests import ServerRequest, from_parts, parse_request
from moodlake.timings import Timings

_JSON = "application/json"
logger = logging.getLogger(__name__)

_PROBE, _CONTENT_TYPE, _QUERY = (
    f"x-moodlake-{name}" for name in ("probe", "content-type", "query")
)


class EmotionHandler:
    """One worker's model; TorchServe calls `initialize` once and `handle` for requests."""

    def initialize(self, context: Any) -> None:
        """Load the bundle from the folder that TorchServe unpacked, and score the probe image."""
        self.model = Model.load(Path(context.system_properties["model_dir"]))
        self.model.probe()
        if self.model.faces is not FaceMode.NONE:
            # Takes seconds; requests are served meanwhile.
            threading.Thread(target=warm_up, daemon=True).start()

    def handle(self, requests: list[dict[str, Any]], context: Any) -> list[str | bytes]:
        """Return one response for each request: JSON, or a PNG for heat maps."""
        return [self._answer(parts, context, index) for index, parts in enumerate(requests)]

    def _answer(self, parts: dict[str, Any], context: Any, index: int) -> str | bytes:
        headers = context.get_all_request_header(index)
        try:
            content_type, content = self._content(parts, headers, context.metrics)
            context.set_response_content_type(index, content_type)
            return content
        except BadRequest as error:
            status, phrase, message = error.status, "Bad Request", str(error)
        except ProbeFailed as error:
            status, phrase, message = 503, "Not Ready", str(error)
        except Exception:  # a bug must not fail the other requests of the batch
            logger.exception("request failed")
            status, phrase, message = (
                500,
                "Internal Server Error",
                "internal error; see the server's log",
            )
        context.set_response_content_type(index, _JSON)
        context.set_response_status(status, phrase, index)
        return json.dumps({"code": status, "message": message})

    def _content(
        self, parts: dict[str, Any], headers: dict[str, Any], metrics: Registry
    ) -> tuple[str, str | bytes]:
        """Return content type and content of the response."""
        if digest := _header(headers, _PROBE):
            return _JSON, json.dumps(self._probe(digest))
        if headers.get("explain") == "True":
            return explain_request(self.model, _read(parts, headers, OF_EXPLAINING))
        request = _read(parts, headers, OF_SCORING)
        if request.options.describe:
            return _JSON, json.dumps(describe(self.model))
        timings = Timings()
        predictions, content = answer(self.model, request, timings)
        emit(metrics, predictions, timings)
        return _JSON, json.dumps(content)

    def _probe(self, digest: str) -> dict[str, Any]:
        """Check that the expected model is served and predicts the probe image as when packed."""
        if digest != self.model.identity.digest:
            raise ProbeFailed(f"model {self.model.identity.digest} is served, not {digest}")
        self.model.probe()
        return {"status": "ready", "digest": digest}


def _read(parts: dict[str, Any], headers: dict[str, Any], known: Sequence[str]) -> ServerRequest:
    content_type = _header(headers, _CONTENT_TYPE)
    if content_type is not None:
        body = parts.get("body", b"")
        return parse_request(bytes(body), content_type, _header(headers, _QUERY) or "", known)
    if not all(isinstance(part, bytes | bytearray) for part in parts.values()):
        raise BadRequest(
            "send images as bytes: one as the body, of type application/octet-stream or image/*, "
            "or several as parts of a form"
        )
    return from_parts(parts, known)


def _header(headers: dict[str, Any], name: str) -> str | None:
    """Return a header; its case is the client's."""
    return next((value for key, value in headers.items() if key.lower() == name), None)
