"""The model server alone: TorchServe behind nginx, without S3 and Airflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.local.gateway import GatewayService
from infra.local.ports import HOST, Ports
from infra.local.service import Startable
from infra.local.torchserve import TorchServeService


class ModelServer(Startable):
    """Serve one archive, as a context manager.

    Args:
        folder: for files, logs and secrets.
        archive: the model.
        port: the gateway's port, by default a free one; TorchServe always gets free ports.
        workers: number of TorchServe workers.
        gateway: further arguments of GatewayService: `host`, `token`, `certificate`.
    """

    def __init__(
        self,
        folder: Path,
        archive: Path,
        port: int | None = None,
        workers: int = TorchServeService.WORKERS,
        **gateway: Any,
    ) -> None:
        free = Ports.free()
        self.ports = replace(free, gateway=port) if port else free
        self.archive = archive
        self.torchserve = TorchServeService(folder / "torchserve", self.ports, archive, workers)
        self.gateway = GatewayService(
            folder / GatewayService.FOLDER, self.ports, archive, self.torchserve.keys, **gateway
        )

    def start(self) -> None:
        """Start TorchServe and nginx, and wait until both are ready."""
        for service in (self.torchserve, self.gateway):
            service.start()
        for service in (self.torchserve, self.gateway):
            service.wait()

    def check_alive(self) -> None:
        """Raise NotReady, with the end of the log, if a process has ended by itself."""
        for service in (self.torchserve, self.gateway):
            service.check_alive()

    def stop(self) -> None:
        """Answer accepted requests, then stop."""
        self.gateway.stop()
        self.torchserve.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        return HOST, self.ports.gateway

    @property
    def token(self) -> str:
        """The bearer token of clients."""
        return self.gateway.token

    def http(self, **options: Any) -> httpx.Client:
        """Return an HTTP client that sends the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.gateway.url, headers=headers, timeout=60, **options)

    def workers(self) -> list[psutil.Process]:
        """Return TorchServe's worker processes."""
        java = psutil.Process(self.torchserve.children["torchserve"].pid)
        return [
            process
            for process in java.children(recursive=True)
            if any("model_service_worker" in word for word in process.cmdline())
        ]
