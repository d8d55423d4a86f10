"""An S3 server on this machine: SeaweedFS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service, write_secret

ACCESS_KEY = "moodlake"
REGION = "us-east-1"
_PROBE = "moodlake-probe"


class S3Service(Service):
    """S3 API on `ports.s3`, with one identity whose secret is kept in `folder`."""

    name = "S3"

    def __init__(self, folder: Path, ports: Ports, buckets: tuple[str, ...]) -> None:
        super().__init__(folder)
        self._ports = ports
        self._buckets = buckets
        self.url = f"http://{HOST}:{ports.s3}"
        self._secret = self.secret("secret.json")

    def environment(self) -> dict[str, str]:
        """Return the AWS environment variables that point clients at this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        self.save_secrets()
        identities = self.folder / "identities.json"
        key = {"accessKey": ACCESS_KEY, "secretKey": self._secret}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        identity = {"name": ACCESS_KEY, "credentials": [key], "actions": actions}
        write_secret(identities, {"identities": [identity]})
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        ports = self._ports
        options: dict[str, Any] = {
            "dir": data,
            "ip": HOST,
            "ip.bind": HOST,
            "master.port": ports.master,
            "master.port.grpc": ports.master_grpc,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 512,
            "volume.port": ports.volume,
            "volume.port.grpc": ports.volume_grpc,
            "volume.max": 1000,  # each bucket uses several
            "filer.port": ports.filer,
            "filer.port.grpc": ports.filer_grpc,
            "s3.port": ports.s3,
            "s3.port.grpc": ports.s3_grpc,
            "s3.config": identities,
            # Unused catalogues would listen on fixed ports.
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        flags = [f"-{name}={value}" for name, value in options.items()]
        self.spawn("s3", ["weed", "server", "-filer", "-s3", *flags], {})

    def check(self) -> str:
        """Create the buckets, then write, read and delete an object."""
        client = self.client()
        try:
            existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            for bucket in {*self._buckets, _PROBE} - existing:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=_PROBE, Key="probe", Body=b"moodlake")
            if client.get_object(Bucket=_PROBE, Key="probe")["Body"].read() != b"moodlake":
                raise NotReady("an object was read back changed")
            client.delete_object(Bucket=_PROBE, Key="probe")
        except (BotoCoreError, ClientError) as error:
            raise NotReady(str(error)) from error
        return "an object was written, read and deleted"

    def client(self) -> BaseClient:
        """Return an S3 client of this server, independent of the environment."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self._secret,
            region_name=REGION,
            config=Config(connect_timeout=2, read_timeout=30, retries={"max_attempts": 1}),
        )
