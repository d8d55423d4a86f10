"""Clients of the model server: `ServerClient`, its asynchronous counterpart, and `connect`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from moodlake.emotions import LabelSpace
from moodlake.prediction import FaceMode, ModelIdentity, Prediction
from moodlake.serving.protocol import Exchange, Protocol, Result
from moodlake.serving.token import Keys, ServerAway, ServerError
from moodlake.settings import Settings

__all__ = ["AsyncServerClient", "ServerClient", "ServerError", "connect"]

log = logging.getLogger(__name__)
_ATTEMPTS, _TIMEOUT = 6, 120.0
_INTERACTIVE_ATTEMPTS, _INTERACTIVE_TIMEOUT = 3, 60.0


class _ServedModel:
    """The model of a server, as the server describes it.

    Attributes:
        identity: the model's name, version and digest.
        space: the label space of its distributions.
        faces: the default face mode, for requests that do not set one.
        provenance: digests, parameters and metrics of its training.
        reference: see `Model.reference`; None also from older servers.
    """

    identity: ModelIdentity
    space: LabelSpace
    faces: FaceMode
    provenance: dict[str, Any]
    reference: dict[str, Any] | None

    def _read_description(self, description: dict[str, Any]) -> None:
        try:
            self.identity = ModelIdentity(**description["model"])
            self.space = LabelSpace.from_dict(description["label_space"])
            self.faces = FaceMode(description["faces"])
            self.provenance = description["provenance"]
        except KeyError as error:
            raise ServerError(
                f"the server's description of its model lacks {error}: an older version of "
                "moodlake packed the archive; pack it again with this version"
            ) from error
        self.reference = description.get("reference")


class ServerClient(_ServedModel):
    """A client of the model server. Threads may share it; they reuse its connections.

    Args:
        url: the address of the server.
        keys: its key_file.json, or the ARN of a secret; None if the server requires no token. They
            are read again if the server rejects the token: a server restart may change it.
        attempts: number of attempts before a request fails.
        timeout: seconds to wait for one response.
        version: version of the model; None for the server's default.

    Raises:
        ServerError: there is no such server or version, or it denies access.
    """

    def __init__(
        self,
        url: str,
        keys: Keys = None,
        *,
        attempts: int = _ATTEMPTS,
        timeout: float = _TIMEOUT,
        version: str | None = None,
    ) -> None:
        self._protocol = Protocol(url, keys, attempts, version)
        self._http = httpx.Client(**_connection(url, timeout))
        try:
            self._read_description(self._run(self._protocol.describe()))
        except BaseException:
            self.close()
            raise

    def score(
        self, images: Sequence[bytes], *, faces: FaceMode | str | None = None
    ) -> list[Prediction]:
        """Return predictions in the order of `images`, which are encoded files.

        If the server fails on a batch, the batch is split until the failing image is isolated;
        that image is rejected with `model_error`, and the others are scored.

        Raises:
            ServerError: the server cannot be reached, rejects the token, or serves a different
                model from the one at connection time.
        """
        return self._run(self._protocol.score(images, _options(faces)))

    def explain(
        self, image: bytes, emotion: str | None = None, *, faces: FaceMode | str | None = None
    ) -> bytes:
        """Return a heat map of an emotion in an image, a PNG; by default of the dominant emotion.

        Raises:
            ServerError: as for `score`; or the image cannot be scored, or the model has no such
                emotion or no heat maps.
        """
        return self._run(self._protocol.explain(image, _options(faces, emotion)))

    @property
    def throttled(self) -> int:
        """Number of throttling responses so far, such as HTTP 429."""
        return self._protocol.throttled

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that the server has spent on the images so far, by step."""
        return self._protocol.stopwatch.seconds

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _run(self, exchange: Exchange[Result]) -> Result:
        reply: Any = None
        while True:
            try:
                step = exchange.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, float):
                time.sleep(step)
                reply = None
                continue
            try:
                request = self._http.build_request("POST", **self._protocol.arguments(step))
                request.read()  # load the body; otherwise httpx sends it in many small chunks
                reply = self._http.send(request)
            except httpx.TransportError as error:
                reply = error


class AsyncServerClient(_ServedModel):
    """An asynchronous `ServerClient`, with the same arguments, attributes, methods and errors.

    Use it as a context manager: `async with AsyncServerClient(url, keys) as server`.
    """

    def __init__(
        self,
        url: str,
        keys: Keys = None,
        *,
        attempts: int = _ATTEMPTS,
        timeout: float = _TIMEOUT,
        version: str | None = None,
    ) -> None:
        self._protocol = Protocol(url, keys, attempts, version)
        self._http = httpx.AsyncClient(**_connection(url, timeout))

    async def __aenter__(self) -> Self:
        try:
            self._read_description(await self._run(self._protocol.describe()))
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def score(
        self, images: Sequence[bytes], *, faces: FaceMode | str | None = None
    ) -> list[Prediction]:
        """Return predictions in the order of `images`; see `ServerClient.score`."""
        return await self._run(self._protocol.score(images, _options(faces)))

    async def explain(
        self, image: bytes, emotion: str | None = None, *, faces: FaceMode | str | None = None
    ) -> bytes:
        """Return a heat map as a PNG; see `ServerClient.explain`."""
        return await self._run(self._protocol.explain(image, _options(faces, emotion)))

    async def _run(self, exchange: Exchange[Result]) -> Result:
        reply: Any = None
        while True:
            try:
                step = exchange.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, float):
                await asyncio.sleep(step)
                reply = None
                continue
            try:
                request = self._http.build_request("POST", **self._protocol.arguments(step))
                await request.aread()
                reply = await self._http.send(request)
            except httpx.TransportError as error:
                reply = error


def connect(
    settings: Settings, *, version: str | None = None, interactive: bool = False
) -> ServerClient:
    """Connect to the model server of an installation.

    If the server is still starting, non-interactive callers wait for up to `settings.server_wait`
    seconds. With `interactive`, the call fails within seconds, so that the user can decide when to
    retry.

    Args:
        settings: the server's address, its keys and how long to wait for it.
        version: the version of the model; None for the server's default.
        interactive: do not wait, make fewer attempts, and limit a response to 60 s, not 120 s.

    Raises:
        ServerError: there is no such server or version, or it denies access.
    """
    url, keys = settings.server_url, settings.server_keys
    if interactive:
        attempts, timeout = _INTERACTIVE_ATTEMPTS, _INTERACTIVE_TIMEOUT
        return ServerClient(url, keys, attempts=attempts, timeout=timeout, version=version)
    started = time.monotonic()
    logged = False
    while True:
        try:
            return ServerClient(url, keys, version=version)
        except ServerAway as error:
            if time.monotonic() >= started + settings.server_wait:
                raise
            if not logged:
                log.warning("waiting up to %g s for a server: %s", settings.server_wait, error)
                logged = True


def _connection(url: str, timeout: float) -> dict[str, Any]:
    """Return the arguments of an httpx client.

    Certificates are loaded only for HTTPS, because that takes 30 ms.
    """
    wait = httpx.Timeout(timeout, connect=5)
    return {"timeout": wait, "verify": url.startswith("https:")}


def _options(faces: FaceMode | str | None, emotion: str | None = None) -> dict[str, str]:
    given = {"faces": FaceMode(faces).value if faces else None, "emotion": emotion}
    return {name: value for name, value in given.items() if value is not None}
