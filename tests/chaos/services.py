"""The servers that the chaos tests disturb, and the objects in their bucket."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from botocore.client import BaseClient

from infra.local.s3 import S3Service
from infra.local.server import ModelServer
from infra.local.service import Service, Startable
from moodlake.local_stack import without_aws
from moodlake.settings import Settings
from tests.bundles import write_archive
from tests.images_made import jpeg

RESULTS = "chaos-results"


class Services(Startable):
    """S3, and TorchServe with a tiny model behind nginx, on free ports.

    Args:
        folder: for their files and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.model_server = ModelServer(folder / "server", write_archive(folder / "tiny.mar"))
        self.s3 = S3Service(folder / "s3", self.model_server.ports, (RESULTS,))

    def start(self) -> None:
        """Start the servers and wait until they are ready."""
        self.s3.start()
        self.model_server.start()
        self.s3.wait()

    def stop(self) -> None:
        """Stop the servers."""
        self.model_server.stop()
        self.s3.stop()

    @property
    def s3_port(self) -> int:
        """The port of S3."""
        return self.model_server.ports.s3

    def use_s3(self) -> None:
        """Point this process at this S3, and drop its other AWS settings."""
        kept = without_aws(os.environ)
        os.environ.clear()
        os.environ.update(kept | self.s3.environment())

    def settings(self, results: str) -> Settings:
        """Return the settings of an installation whose tables lie under the prefix `results`."""
        gateway = self.model_server.gateway
        return Settings(
            images_bucket="none",
            results_uri=f"s3://{RESULTS}/{results}",
            server_url=gateway.url,
            server_keys=gateway.keys,
        )

    def environment(self, results: str, s3_url: str | None = None) -> dict[str, str]:
        """Return the environment of a task with these settings; `s3_url` overrides that of S3."""
        s3 = self.s3.environment()
        s3["AWS_ENDPOINT_URL"] = s3_url or s3["AWS_ENDPOINT_URL"]
        # Great Expectations must not send usage data from a task.
        return {**s3, **self.settings(results).to_environment(), "GX_ANALYTICS_ENABLED": "false"}


def kill_service(service: Service) -> None:
    """Send SIGKILL to every process of a service."""
    for child in service.children.values():
        main = psutil.Process(child.pid)
        family = [main, *main.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)


def restart(service: Service) -> None:
    """Start a killed service, and wait until it is ready."""
    service.stop()
    service.start()
    service.wait()


def objects(count: int, start: int = 0) -> dict[str, bytes]:
    """Return small images with numbered keys; every tenth is empty, text or truncated."""
    made = {}
    for number in range(start, start + count):
        image = jpeg(number, 48 + number % 52, 48 + number % 37)
        broken = [b"", f"text {number}".encode(), image[: len(image) // 2]]
        made[f"{number:05d}.jpg"] = broken[number // 10 % 3] if number % 10 == 9 else image
    return made


def put(s3: BaseClient, bucket: str, contents: dict[str, bytes]) -> None:
    """Upload the objects, given by key, to the bucket."""
    for key, data in contents.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)
