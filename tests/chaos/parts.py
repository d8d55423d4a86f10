"""The servers that the chaos is let loose on, and what is in their bucket."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from botocore.client import BaseClient

from infra.local.s3 import S3Service
from infra.local.server import ModelServer
from infra.local.service import Service, StartedInside
from moodlake.local_stack import without_aws
from moodlake.settings import Settings
from tests.bundles import write_archive
from tests.images_made import jpeg

RESULTS = "chaos-results"


class Parts(StartedInside):
    """S3, and TorchServe with a tiny model behind nginx, on free ports.

    Args:
        folder: their files and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.server = ModelServer(folder / "server", write_archive(folder / "tiny.mar"))
        self.s3 = S3Service(folder / "s3", self.server.ports, (RESULTS,))

    def start(self) -> None:
        """Start them and wait until they are ready."""
        self.s3.start()
        self.server.start()
        self.s3.wait()

    def stop(self) -> None:
        """End all."""
        self.server.stop()
        self.s3.stop()

    @property
    def s3_port(self) -> int:
        """Where S3 listens."""
        return self.server.ports.s3

    def point_here(self) -> None:
        """Lead this process to this S3 and no other."""
        kept = without_aws(os.environ)
        os.environ.clear()
        os.environ.update(kept | self.s3.environment())

    def settings(self, results: str) -> Settings:
        """Of an installation whose tables lie under this prefix."""
        gateway = self.server.gateway
        return Settings(
            images_bucket="none",
            results_uri=f"s3://{RESULTS}/{results}",
            server_url=gateway.url,
            server_keys=gateway.keys,
        )

    def environment(self, results: str, s3_url: str | None = None) -> dict[str, str]:
        """Of a task of that installation, which finds S3 at another address if one is given."""
        s3 = self.s3.environment()
        s3["AWS_ENDPOINT_URL"] = s3_url or s3["AWS_ENDPOINT_URL"]
        # The gate must not call home from a task.
        return {**s3, **self.settings(results).to_environment(), "GX_ANALYTICS_ENABLED": "false"}


def kill_all_of(service: Service) -> None:
    """SIGKILL every process of a service at once."""
    for child in service.children.values():
        main = psutil.Process(child.pid)
        family = [main, *main.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)


def restart(service: Service) -> None:
    """Start what was killed, and wait until it works."""
    service.stop()
    service.start()
    service.wait()


def objects(count: int, start: int = 0) -> dict[str, bytes]:
    """Small images under running numbers, of which every tenth is broken in some way."""
    made = {}
    for number in range(start, start + count):
        image = jpeg(number, 48 + number % 52, 48 + number % 37)
        broken = [b"", f"text {number}".encode(), image[: len(image) // 2]]
        made[f"{number:05d}.jpg"] = broken[number // 10 % 3] if number % 10 == 9 else image
    return made


def put(s3: BaseClient, bucket: str, contents: dict[str, bytes]) -> None:
    """Into the bucket, under these keys."""
    for key, data in contents.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)
