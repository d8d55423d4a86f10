"""The model server alone: TorchServe with nginx in front, without S3 and Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.local.front import FrontService
from infra.local.ports import HOST, Ports
from infra.local.service import StartedInside
from infra.local.torchserve import TorchServeService


class ModelServer(StartedInside):
    """Serves one archive on free ports, as a context manager.

    Args:
        folder: its files, logs and secrets.
        archive: the model.
    """

    def __init__(self, folder: Path, archive: Path) -> None:
        self.ports = Ports.free()
        self.archive = archive
        self.torchserve = TorchServeService(folder / "torchserve", self.ports, archive)
        self.front = FrontService(folder / "front", self.ports, archive, self.torchserve.keys)

    def start(self) -> None:
        """Start both, and wait until they are ready."""
        for service in (self.torchserve, self.front):
            service.start()
        for service in (self.torchserve, self.front):
            service.wait()

    def stop(self) -> None:
        """Finish what was accepted, and end both."""
        self.front.stop()
        self.torchserve.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.ports.front

    @property
    def token(self) -> str:
        """What callers send."""
        return self.front.token

    def http(self, **options: Any) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.front.url, headers=headers, timeout=60, **options)

    def workers(self) -> list[psutil.Process]:
        """The processes that hold the model."""
        java = psutil.Process(self.torchserve.children["torchserve"].pid)
        return [
            process
            for process in java.children(recursive=True)
            if any("model_service_worker" in word for word in process.cmdline())
        ]
