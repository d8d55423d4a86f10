from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from infra.local.front import FrontService
from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service
from infra.local.torchserve import TorchServeService
from tests.bundles import write_archive


@dataclass
class Server:
    """A real TorchServe with a tiny model, and nginx in front of it."""

    ports: Ports
    archive: Path
    torchserve: TorchServeService
    front: FrontService

    @classmethod
    def make(cls, folder: Path) -> Server:
        ports = Ports.free()
        archive = write_archive(folder / "tiny.mar")
        torchserve = TorchServeService(folder / "torchserve", ports, archive)
        front = FrontService(folder / "front", ports, archive, torchserve.keys)
        return cls(ports, archive, torchserve, front)

    def start(self) -> None:
        for service in (self.torchserve, self.front):
            service.start()
        for service in (self.torchserve, self.front):
            wait(service)

    def stop(self) -> None:
        self.front.stop()
        self.torchserve.stop()

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.ports.front

    @property
    def token(self) -> str:
        return self.front.token

    def http(self, **options: object) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.front.url, headers=headers, timeout=60, **options)


def wait(service: Service, seconds: float = 60) -> float:
    """Until it is ready; returns how long it took."""
    started = time.monotonic()
    problem = ""
    while time.monotonic() - started < seconds:
        try:
            service.check()
            return time.monotonic() - started
        except NotReady as error:
            problem = str(error)
            time.sleep(0.1)
    raise AssertionError(f"{service.name} did not become ready: {problem}")


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = Server.make(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Shared by the tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("server")) as shared:
        yield shared


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A module's own, which its tests may hurt."""
    with running(tmp_path_factory.mktemp("own")) as hurt:
        yield hurt
