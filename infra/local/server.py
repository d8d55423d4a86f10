"""The model server alone: TorchServe with nginx in front, without S3 and Airflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.local.gateway import GatewayService
from infra.local.ports import HOST, Ports
from infra.local.service import StartedInside
from infra.local.torchserve import TorchServeService


class ModelServer(StartedInside):
    """Serves one archive, as a context manager.

    Args:
        folder: its files, logs and secrets.
        archive: the model.
        port: where callers reach it, a free one if not given; TorchServe's own are free ones.
        workers: how many processes hold the model.
        gateway: what else GatewayService takes: `host`, `token`, `certificate`.
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
        """Start both, and wait until they are ready."""
        for service in (self.torchserve, self.gateway):
            service.start()
        for service in (self.torchserve, self.gateway):
            service.wait()

    def check_alive(self) -> None:
        """Raises NotReady, with the end of its log, if one of them has ended by itself."""
        for service in (self.torchserve, self.gateway):
            service.check_alive()

    def stop(self) -> None:
        """Finish what was accepted, and end both."""
        self.gateway.stop()
        self.torchserve.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.ports.gateway

    @property
    def token(self) -> str:
        """What callers send."""
        return self.gateway.token

    def http(self, **options: Any) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.gateway.url, headers=headers, timeout=60, **options)

    def workers(self) -> list[psutil.Process]:
        """The processes that hold the model."""
        java = psutil.Process(self.torchserve.children["torchserve"].pid)
        return [
            process
            for process in java.children(recursive=True)
            if any("model_service_worker" in word for word in process.cmdline())
        ]
