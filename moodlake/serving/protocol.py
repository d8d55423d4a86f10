"""The requests, retries and answers of a model server's client, without input or output.

`moodlake.serving.client` sends the requests that this module yields.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from moodlake.prediction import ModelIdentity, Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.serving.token import Keys, ServerAway, ServerError, read_token
from moodlake.settings import MODEL_NAME
from moodlake.timings import Stopwatch

# A full queue, no worker yet, or a broken connection behind the gateway: not the images' fault.
_UNAVAILABLE = {429, 502, 503, 504}
# The request exceeds a limit, or killed the worker.
_TOO_LARGE = 413
_BATCH_FAILED = {_TOO_LARGE, 500}
_PART_TYPE = "application/octet-stream"
_MAX_BACKOFF = 5.0


class _Unavailable(Exception):
    """The server cannot answer now; a retry may succeed."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class _BatchFailed(Exception):
    """The server failed on this request.

    Attributes:
        certain: a retry would fail in the same way.
    """

    def __init__(self, message: str, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


@dataclass(frozen=True)
class Post:
    """A request to send; the protocol continues with its answer or its error."""

    address: str
    token: str | None
    options: dict[str, str]
    parts: Sequence[Any]


Result = TypeVar("Result")
Exchange = Generator[Post | float, Any, Result]
"""Yields what the caller does next: send a `Post`, or wait a number of seconds."""


class Protocol:
    """Generates requests and reads answers. Safe to share between threads and tasks."""

    def __init__(self, url: str, keys: Keys, attempts: int, version: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._keys = keys
        self._attempts = attempts
        self._token = read_token(keys)
        self._version = version
        self.identity: ModelIdentity | None = None
        self.throttled = 0
        """Answers that asked for fewer requests: HTTP 429, 502, 503 or 504."""
        self.stopwatch = Stopwatch()
        """Seconds that the server has spent on the images, by step."""

    def describe(self) -> Exchange[dict[str, Any]]:
        """Return the server's description of its model; `score` then accepts no other model."""
        try:
            description = _content((yield from self._request({"describe": "true"})))
        except _BatchFailed as error:
            raise ServerError(f"{self.url} does not describe its model: {error}") from error
        self.identity = ModelIdentity(**description["model"])
        self._version = self.identity.version
        return description

    def score(self, images: Sequence[bytes], options: dict[str, str]) -> Exchange[list[Prediction]]:
        """Return predictions; a batch that fails is sent again in halves."""
        if isinstance(images, bytes) or not all(isinstance(data, bytes) for data in images):
            raise TypeError("images is a list of encoded files: score([path.read_bytes()])")
        if not images:
            return []
        parts = [
            (f"{index:06d}", (f"{index:06d}", data, _PART_TYPE))
            for index, data in enumerate(images)
        ]
        try:
            timed = {"timings": "true", **options}
            answer = _content((yield from self._request(timed, parts)))
        except _BatchFailed as error:
            if len(images) == 1:
                reason = Reason.TOO_LARGE if error.certain else Reason.MODEL_ERROR
                return [Prediction.rejected(Rejected(reason, str(error)))]
            middle = len(images) // 2
            first = yield from self.score(images[:middle], options)
            return first + (yield from self.score(images[middle:], options))
        return self._predictions(answer, [name for name, _ in parts])

    def explain(self, image: bytes, options: dict[str, str]) -> Exchange[bytes]:
        """Return the heat map of one image, a PNG."""
        parts = [("image", ("image", image, _PART_TYPE))]
        try:
            answer = yield from self._request(options, parts, "explanations")
        except _BatchFailed as error:
            raise ServerError(f"{self.url} cannot explain this image: {error}") from error
        return bytes(answer.content)

    def _predictions(self, answer: dict[str, Any], names: list[str]) -> list[Prediction]:
        assert self.identity
        if answer["model"]["digest"] != self.identity.digest:
            raise ServerError(
                f"{self.url} serves model {answer['model']['digest'][:12]} instead of "
                f"{self.identity.digest[:12]}: the model changed during the run; start a new run"
            )
        if [item["name"] for item in answer["predictions"]] != names:
            raise ServerError(f"{self.url} did not answer for the images that were sent")
        for name, value in answer.get("timings", {}).items():
            self.stopwatch.add({name.removesuffix("_ms"): value / 1e3})
        return [Prediction.from_dict(item) for item in answer["predictions"]]

    def _request(
        self, options: dict[str, str], parts: Sequence[Any] = (), action: str = "predictions"
    ) -> Exchange[httpx.Response]:
        """Post with retries.

        Raises:
            ServerError: no connection, no free worker, or a rejected token.
            _BatchFailed: this request kills the worker or exceeds a limit.
        """
        # A run uses one version to its end, whichever becomes the default meanwhile.
        version = f"/{self._version}" if self._version else ""
        address = f"{self.url}/{action}/{MODEL_NAME}{version}"
        problem: Exception | None = None
        failed: _BatchFailed | None = None
        for attempt in range(self._attempts):
            if attempt:
                backoff = min(_MAX_BACKOFF, 0.2 * 2**attempt) * random.uniform(0.5, 1)
                yield max(backoff, getattr(problem, "wait", 0.0))
            try:
                return (yield from self._post(address, options, parts))
            except (httpx.TransportError, _Unavailable) as error:
                problem = error
            except _BatchFailed as error:
                # A first failure may be due to another request or an operator.
                if failed or error.certain:
                    raise
                problem = failed = error
        if failed:
            raise failed
        raise ServerAway(
            f"no answer from the model server at {self.url} ({problem}); start it with "
            "`moodlake up`, or set another address (--endpoint or MOODLAKE_SERVER_URL)"
        ) from problem

    def _post(
        self, address: str, options: dict[str, str], parts: Sequence[Any]
    ) -> Exchange[httpx.Response]:
        token = self._token
        answer: Any = yield Post(address, token, options, parts)
        if isinstance(answer, httpx.TransportError):
            raise answer
        if answer.status_code == 200:
            response: httpx.Response = answer
            return response
        if answer.status_code == 401:
            if token == (fresh := read_token(self._keys)):
                raise ServerError(
                    f"{self.url} rejects the token of {self._keys}; set --keys or "
                    "MOODLAKE_SERVER_KEYS to that server's key_file.json or secret"
                )
            self._token = fresh
            return (yield from self._post(address, options, parts))
        if answer.status_code == 404:
            version = f", version {self._version}" if self._version else ""
            raise ServerError(
                f"{self.url} serves no model {MODEL_NAME!r}{version}; `moodlake model list` lists "
                "its versions, and a new run uses the default one"
            )
        message = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in _UNAVAILABLE:
            self.throttled += 1
            raise _Unavailable(message, _retry_after(answer))
        if answer.status_code in _BATCH_FAILED:
            raise _BatchFailed(message, certain=answer.status_code == _TOO_LARGE)
        raise ServerError(f"{self.url} rejects the request: {message}")

    def arguments(self, post: Post) -> dict[str, Any]:
        """Return the arguments of httpx's `build_request`."""
        return {
            "url": post.address,
            "params": post.options,
            "headers": {"Authorization": f"Bearer {post.token}"} if post.token else {},
            "files": post.parts or None,
        }


def _content(answer: httpx.Response) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        content = answer.json()
        if isinstance(content, dict) and "model" in content:
            return content
    raise ServerError(f"{answer.url} is not a moodlake server: it answered {answer.text[:80]!r}")


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(60.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
