"""Manage the versions of the model in a running TorchServe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.local.archives import install
from infra.local.gateway import GatewayService
from infra.local.service import NotReady
from infra.local.torchserve import TorchServeService
from moodlake.errors import UserError
from moodlake.inference.bundle import read_meta
from moodlake.serving.client import ServerError, connect
from moodlake.settings import MODEL_NAME, Settings

_LOADING_SECONDS = 120


class VersionError(UserError):
    """A version that cannot be added, used or removed; the message says why."""


@dataclass(frozen=True)
class Version:
    """A version of the model that TorchServe holds.

    Attributes:
        version: the archive's version; part of the URL of requests to it.
        digest: the model's digest.
        archive: file in TorchServe's model store.
        ready: whether all its workers are ready.
        default: whether it answers requests that name no version.
    """

    version: str
    digest: str
    archive: Path
    ready: bool
    default: bool


class Versions:
    """The versions that a running TorchServe holds."""

    def __init__(self, torchserve: TorchServeService, gateway: GatewayService) -> None:
        self._torchserve = torchserve
        self._gateway = gateway

    def all(self) -> list[Version]:
        """Return every version, the lowest first."""
        default = self._ask("GET", f"/models/{MODEL_NAME}").json()[0]["modelVersion"]
        found = self._ask("GET", f"/models/{MODEL_NAME}/all").json()
        versions = [self._version(entry, default) for entry in found]
        return sorted(versions, key=lambda each: [int(part) for part in each.version.split(".")])

    def add(self, archive: Path) -> Version:
        """Load an archive beside the others without changing the default.

        Raises:
            VersionError: its version is already served, its workers do not start, or clients
                cannot use it.
        """
        meta = read_meta(archive)
        if meta["version"] in {each.version for each in self.all()}:
            raise VersionError(
                f"version {meta['version']} is already served; build the archive with another "
                "version (archive.version in params.yaml)"
            )
        name = f"{MODEL_NAME}-{meta['digest'][:12]}.mar"
        install(archive, self._torchserve.store / name)
        options = {
            "url": name,
            "model_name": MODEL_NAME,
            "initial_workers": str(self._torchserve.workers),
            "synchronous": "true",
        }
        self._ask("POST", "/models", options)
        try:
            served = Settings(server_url=self._gateway.url, server_keys=self._gateway.keys)
            connect(served, version=meta["version"]).close()
        except ServerError as error:
            self.remove(meta["version"])
            raise VersionError(f"{archive} cannot be used: {error}") from error
        return self._named(meta["version"])

    def use(self, version: str) -> Version:
        """Make a version the default, if it scores the probe image correctly. Also to roll back.

        Requests in progress are answered by the version that accepted them.
        """
        chosen = self._named(version)
        try:
            self._torchserve.probe(chosen.digest, version)
        except NotReady as error:
            raise VersionError(f"version {version} does not work: {error}") from error
        self._ask("PUT", f"/models/{MODEL_NAME}/{version}/set-default")
        self._gateway.expect(chosen.archive)
        return self._named(version)

    def remove(self, version: str) -> None:
        """Unload a version that is not the default; its clients get an error."""
        removed = self._named(version)
        if removed.default:
            raise VersionError(f"version {version} is the default; use another one first")
        self._ask("DELETE", f"/models/{MODEL_NAME}/{version}")
        removed.archive.unlink(missing_ok=True)

    def _named(self, version: str) -> Version:
        known = {each.version: each for each in self.all()}
        if version not in known:
            raise VersionError(f"there is no version {version!r}; served are {', '.join(known)}")
        return known[version]

    def _version(self, entry: dict[str, Any], default: str) -> Version:
        archive = self._torchserve.store / entry["modelUrl"]
        statuses = [worker["status"] for worker in entry["workers"]]
        return Version(
            entry["modelVersion"],
            read_meta(archive)["digest"],
            archive,
            bool(statuses) and set(statuses) == {"READY"},
            entry["modelVersion"] == default,
        )

    def _ask(self, method: str, path: str, options: dict[str, str] | None = None) -> httpx.Response:
        try:
            answer = self._torchserve.manage(method, path, options, timeout=_LOADING_SECONDS)
        except (httpx.HTTPError, OSError) as error:
            raise VersionError(f"TorchServe does not answer {method} {path}: {error}") from error
        if answer.status_code >= 400:
            raise VersionError(f"TorchServe rejected {method} {path}: {answer.text[:300]}")
        return answer
