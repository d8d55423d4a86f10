"""What a client of the model server sends, and what it makes of the answers.

It does no input or output of its own: `moodlake.serving.client` carries its steps out.
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

# A full queue, no worker yet, a broken way to it: it says nothing of the images.
_UNAVAILABLE = {429, 502, 503, 504}
# The images are more than the server takes at once; or the worker died of them.
_TOO_MUCH = 413
_BATCH_FAILED = {_TOO_MUCH, 500}
_PART_TYPE = "application/octet-stream"
_LONGEST_WAIT = 5.0


class _Unavailable(Exception):
    """The server cannot answer now; another try may help."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class _BatchFailed(Exception):
    """The server answered, but with an error for this very request.

    Attributes:
        certain: another try would be answered the same.
    """

    def __init__(self, message: str, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


@dataclass(frozen=True)
class Post:
    """A step of the protocol: send this, and come back with the answer or the error."""

    address: str
    token: str | None
    options: dict[str, str]
    parts: Sequence[Any]


Result = TypeVar("Result")
Exchange = Generator[Post | float, Any, Result]
"""Steps that are carried out by others: a `Post`, or seconds to wait."""


class Protocol:
    """Decides what to send; shared by threads and tasks."""

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
        """What the server says that the images took it."""

    def describe(self) -> Exchange[dict[str, Any]]:
        """Ask what is served; answers of another model are refused from then on."""
        try:
            description = _content((yield from self._request({"describe": "true"})))
        except _BatchFailed as error:
            raise ServerError(f"{self.url} does not say what it serves: {error}") from error
        self.identity = ModelIdentity(**description["model"])
        self._version = self.identity.version
        return description

    def score(self, images: Sequence[bytes], options: dict[str, str]) -> Exchange[list[Prediction]]:
        """Ask for predictions; a batch that fails is asked for by halves."""
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
        """Ask for the heat map of one image, a PNG."""
        parts = [("image", ("image", image, _PART_TYPE))]
        try:
            answer = yield from self._request(options, parts, "explanations")
        except _BatchFailed as error:
            raise ServerError(f"{self.url} does not explain this image: {error}") from error
        return bytes(answer.content)

    def _predictions(self, answer: dict[str, Any], names: list[str]) -> list[Prediction]:
        assert self.identity
        if answer["model"]["digest"] != self.identity.digest:
            raise ServerError(
                f"{self.url} now serves model {answer['model']['digest'][:12]}, not "
                f"{self.identity.digest[:12]}: the model was changed during the run; start again"
            )
        if [item["name"] for item in answer["predictions"]] != names:
            raise ServerError(f"{self.url} answered for other images than it was sent")
        for name, value in answer.get("timings", {}).items():
            self.stopwatch.add({name.removesuffix("_ms"): value / 1e3})
        return [Prediction.from_dict(item) for item in answer["predictions"]]

    def _request(
        self, options: dict[str, str], parts: Sequence[Any] = (), what: str = "predictions"
    ) -> Exchange[httpx.Response]:
        """Post with retries.

        Raises:
            ServerError: no connection, no free worker, or a token that stays refused.
            _BatchFailed: this request kills the worker, or is refused for what it holds.
        """
        # A run that began with one version ends with it, whichever is the default by then.
        version = f"/{self._version}" if self._version else ""
        address = f"{self.url}/{what}/{MODEL_NAME}{version}"
        problem: Exception | None = None
        failed: _BatchFailed | None = None
        for attempt in range(self._attempts):
            if attempt:
                backoff = min(_LONGEST_WAIT, 0.2 * 2**attempt) * random.uniform(0.5, 1)
                yield max(backoff, getattr(problem, "wait", 0.0))
            try:
                return (yield from self._post(address, options, parts))
            except (httpx.TransportError, _Unavailable) as error:
                problem = error
            except _BatchFailed as error:
                # Once may be a worker that another request, or an operator, killed.
                if failed or error.certain:
                    raise
                problem = failed = error
        if failed:
            raise failed
        raise ServerAway(
            f"no answer from the model server at {self.url} ({problem}); "
            "start it with `moodlake up`, or give the address of another (--endpoint, "
            "MOODLAKE_SERVER_URL)"
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
                    f"{self.url} refuses the token of {self._keys}; --keys or MOODLAKE_SERVER_KEYS "
                    "must name the key_file.json of the server that runs there, or its secret"
                )
            self._token = fresh
            return (yield from self._post(address, options, parts))
        if answer.status_code == 404:
            version = f" of version {self._version}" if self._version else ""
            raise ServerError(
                f"{self.url} serves no model named {MODEL_NAME!r}{version}; `moodlake model list` "
                "shows what there is, and a new run takes the one that answers"
            )
        message = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in _UNAVAILABLE:
            self.throttled += 1
            raise _Unavailable(message, _retry_after(answer))
        if answer.status_code in _BATCH_FAILED:
            raise _BatchFailed(message, certain=answer.status_code == _TOO_MUCH)
        raise ServerError(f"{self.url} refuses the request: {message}")

    def arguments(self, post: Post) -> dict[str, Any]:
        """Of httpx's `build_request`."""
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
    raise ServerError(f"{answer.url} is no moodlake server: it answered {answer.text[:80]!r}")


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(60.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
