"""An object that is dropped is soon in the table: S3 tells SQS, and SQS wakes Airflow.

SeaweedFS sends no notifications; here moto's server plays S3 and SQS.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest

from infra.local.airflow import AirflowService
from infra.local.ports import HOST, Ports
from infra.local.server import ModelServer
from infra.local.service import NotReady, Service
from moodlake.scoring.results import ResultsTable
from moodlake.settings import PROJECT_ROOT, Settings
from tests.bundles import write_archive
from tests.images_made import jpeg

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAG = "score_on_arrival"
BUCKET = "dropped-here"
SECONDS = 240


class Moto(Service):
    """S3 with notifications, and SQS."""

    name = "moto"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        self.spawn("moto", ["moto_server", "-H", HOST, "-p", str(self._port)], {})

    def check(self) -> str:
        try:
            self.client("s3").list_buckets()
        except Exception as error:
            raise NotReady(str(error)) from error
        return "it answers"

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id="made-up",
            aws_secret_access_key="made-up",
            region_name="us-east-1",
        )

    def notifying_bucket(self, name: str) -> str:
        """Make a bucket that tells a queue of what is put into it; returns the queue's URL."""
        s3, sqs = self.client("s3"), self.client("sqs")
        s3.create_bucket(Bucket=name)
        url = str(sqs.create_queue(QueueName=name)["QueueUrl"])
        told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        target = {"QueueArn": told["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [target]}
        )
        return url


def only(folder: Path, dag: str) -> Path:
    """A folder of this DAG alone: the one that lists the bucket would find what is dropped."""
    dags = folder / "dags"
    dags.mkdir()
    for name in (dag, "scoring_steps"):
        shutil.copy(PROJECT_ROOT / "dags" / f"{name}.py", dags)
    return dags


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Moto, Settings]]:
    """moto, a model server with a tiny model and Airflow, which watches the queue of a bucket."""
    folder = tmp_path_factory.mktemp("arrival")
    ports = Ports.free()
    moto = Moto(folder / "moto", ports.s3)
    with ModelServer(folder / "server", write_archive(folder / "tiny.mar")) as server:
        moto.start()
        try:
            moto.wait()
            settings = Settings(
                images_bucket=BUCKET,
                results_uri=str(folder / "results"),
                server_url=server.front.url,
                server_keys=server.front.keys,
                arrivals_queue=moto.notifying_bucket(BUCKET),
            )
            environment = moto.environment | settings.to_environment()
            airflow = AirflowService(folder / "airflow", ports, only(folder, DAG), environment, DAG)
            airflow.start()
            try:
                airflow.wait()
                yield moto, settings
            finally:
                airflow.stop()
        finally:
            moto.stop()


def wait_for_rows(settings: Settings, count: int) -> pa.Table:
    """The table, once it has so many rows."""
    table = ResultsTable(settings.results_table)
    for _ in range(2 * SECONDS):
        if table.open() and (rows := table.read()).num_rows >= count:
            return rows
        time.sleep(0.5)
    raise AssertionError(f"{count} rows are not there after {SECONDS} s")


def test_what_is_dropped_is_scored_without_a_listing(installation: tuple[Moto, Settings]) -> None:
    moto, settings = installation
    s3 = moto.client("s3")
    dropped = {"2026/a b+é.jpg": jpeg(1), "broken.jpg": b"no image", "plain.jpg": jpeg(2)}
    # What is no notification hurts none of the others.
    moto.client("sqs").send_message(QueueUrl=settings.arrivals_queue, MessageBody="no JSON")
    for key, data in dropped.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    rows = wait_for_rows(settings, len(dropped)).to_pylist()
    assert {row["key"]: row["reason"] for row in rows} == {
        "2026/a b+é.jpg": None,
        "broken.jpg": "not_an_image",
        "plain.jpg": None,
    }
    etags = {row["key"]: row["etag"] for row in rows}
    assert etags["plain.jpg"] == json.loads(s3.head_object(Bucket=BUCKET, Key="plain.jpg")["ETag"])
    s3.put_object(Bucket=BUCKET, Key="plain.jpg", Body=jpeg(3))
    s3.put_object(Bucket=BUCKET, Key="2026/a b+é.jpg", Body=dropped["2026/a b+é.jpg"])
    rows = wait_for_rows(settings, len(dropped) + 1).to_pylist()
    assert sorted(row["key"] for row in rows) == sorted([*dropped, "plain.jpg"])
