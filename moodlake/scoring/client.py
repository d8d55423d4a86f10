"""The client of the model server: batches of images in, predictions out."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from moodlake.emotions import LabelSpace
from moodlake.errors import MendableError
from moodlake.faces import FaceMode
from moodlake.model import ModelIdentity
from moodlake.prediction import Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.settings import MODEL_NAME

# A full queue, no worker yet, a broken way to it: it says nothing of the images.
_UNAVAILABLE = {429, 502, 503, 504, 507}
# The worker died of these images, or they are more than the server takes at once.
_BATCH_FAILED = {413, 500}
_PART_TYPE = "application/octet-stream"


class ServerError(MendableError):
    """The model server is out of reach or refuses; the message says what to do."""


class _Unavailable(Exception):
    """The server cannot answer now; another try may help."""


class _BatchFailed(Exception):
    """The server answered, but with an error for this very request."""


class ServerClient:
    """Predictions from TorchServe over HTTP. Safe to share between threads.

    Args:
        url: the inference address.
        keys: TorchServe's key_file.json, or None if the server wants no token. It is read again
            when the server refuses a token, since a restart writes new ones.
        attempts: how often a request is tried before it counts as failed.
        timeout: seconds for one answer.
    """

    def __init__(
        self,
        url: str,
        keys: Path | None = None,
        *,
        attempts: int = 6,
        timeout: float = 120,
    ) -> None:
        self._url = url.rstrip("/")
        self._keys = keys
        self._attempts = attempts
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, connect=5))
        self._token = self._read_token()
        try:
            description = self._request({"describe": "true"})
        except _BatchFailed as error:
            raise ServerError(f"{self._url} does not say what it serves: {error}") from error
        self.identity = ModelIdentity(**description["model"])
        self.space = LabelSpace.from_dict(description["label_space"])
        self.faces = FaceMode(description["faces"])
        self.provenance: dict[str, Any] = description["provenance"]

    def score(self, images: Sequence[bytes], *, faces: FaceMode | None = None) -> list[Prediction]:
        """Predictions in the order of `images`.

        A batch that the server fails on is split until the image at fault stands alone; that one
        is rejected with `model_error` and its neighbours are scored.

        Raises:
            ServerError: the server is out of reach, refuses the token, or serves another model
                than it did when this client was made.
        """
        if not images:
            return []
        parts = [
            (f"{index:06d}", (f"{index:06d}", data, _PART_TYPE))
            for index, data in enumerate(images)
        ]
        try:
            answer = self._request({"faces": str(faces)} if faces else {}, parts)
        except _BatchFailed as error:
            if len(images) == 1:
                return [Prediction.rejected(Rejected(Reason.MODEL_ERROR, str(error)))]
            middle = len(images) // 2
            halves = (images[:middle], images[middle:])
            return [item for half in halves for item in self.score(half, faces=faces)]
        if answer["model"]["digest"] != self.identity.digest:
            raise ServerError(
                f"{self._url} now serves model {answer['model']['digest'][:12]}, not "
                f"{self.identity.digest[:12]}: the model was changed during the run; start again"
            )
        predictions = answer["predictions"]
        if [item["name"] for item in predictions] != [name for name, _ in parts]:
            raise ServerError(f"{self._url} answered for other images than it was sent")
        return [Prediction.from_dict(item) for item in predictions]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _read_token(self) -> str | None:
        if self._keys is None:
            return None
        try:
            return str(json.loads(self._keys.read_text("utf-8"))["inference"]["key"])
        except (OSError, ValueError, KeyError) as error:
            raise ServerError(
                f"cannot read the server's token from {self._keys}: {error}; "
                "is TorchServe running? MOODLAKE_SERVER_KEYS names its key_file.json"
            ) from error

    def _request(self, options: dict[str, str], parts: Sequence[Any] = ()) -> dict[str, Any]:
        """POST with retries.

        Raises:
            ServerError: no connection, no free worker, or a token that stays refused.
            _BatchFailed: this request kills the worker, or is refused for what it holds.
        """
        problem: Exception | None = None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(min(5.0, 0.2 * 2**attempt) * random.uniform(0.5, 1))
            try:
                return self._post(options, parts)
            except (httpx.TransportError, _Unavailable) as error:
                problem = error
            except _BatchFailed as error:
                # Once may be a worker that another request, or an operator, killed.
                if isinstance(problem, _BatchFailed):
                    raise
                problem = error
        raise ServerError(
            f"no answer from the model server at {self._url} ({problem}); "
            "start it with `moodlake up` or set MOODLAKE_SERVER_URL"
        ) from problem

    def _content(self, answer: httpx.Response) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            content = answer.json()
            if isinstance(content, dict) and "model" in content:
                return content
        raise ServerError(f"{self._url} is no moodlake server: it answered {answer.text[:80]!r}")

    def _post(self, options: dict[str, str], parts: Sequence[Any]) -> dict[str, Any]:
        headers = {f"X-Moodlake-{name}": value for name, value in options.items()}
        token = self._token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self._url}/predictions/{MODEL_NAME}"
        answer = self._http.post(url, headers=headers, files=parts or None)
        if answer.status_code == 200:
            return self._content(answer)
        if answer.status_code == 400 and "Token" in answer.text:
            if token == (fresh := self._read_token()):
                raise ServerError(
                    f"{self._url} refuses the token; MOODLAKE_SERVER_KEYS must name the "
                    "key_file.json of the TorchServe that runs there"
                )
            self._token = fresh
            return self._post(options, parts)
        if answer.status_code == 404:
            raise ServerError(f"{self._url} serves no model named {MODEL_NAME!r}")
        message = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in _UNAVAILABLE:
            raise _Unavailable(message)
        if answer.status_code in _BATCH_FAILED:
            raise _BatchFailed(message)
        raise ServerError(f"{self._url} refuses the request: {message}")
