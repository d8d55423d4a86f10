"""A new object is soon in the table: S3 notifies SQS, and SQS triggers Airflow.

Everything is deployed by the template, with only the permissions that it grants.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pytest

from infra.aws.installation import METRICS, Installation
from infra.local.airflow import AirflowService
from infra.local.ports import Ports
from infra.local.server import ModelServer
from moodlake.scoring.cloudwatch import BUCKET
from moodlake.scoring.sources.dead_letters import REASON
from moodlake.scoring.tables.results import ResultsTable
from moodlake.settings import PROJECT_ROOT, Settings
from tests.aws.emulator import Emulator
from tests.bundles import write_archive
from tests.images_made import jpeg
from tests.scoring.sources.test_notifications import message, record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAG = "score_on_arrival"
SECONDS = 240
REMIND_SECONDS = 45


def only(folder: Path, dag: str) -> Path:
    """A folder of this DAG alone: the DAG that lists the bucket would find new objects, too."""
    dags = folder / "dags"
    dags.mkdir()
    for name in (dag, "scoring_steps"):
        shutil.copy(PROJECT_ROOT / "dags" / f"{name}.py", dags)
    return dags


@pytest.fixture(scope="module")
def settings(
    aws: Emulator, cloud: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A model server with a tiny model, and Airflow in its role."""
    folder = tmp_path_factory.mktemp("arrival")
    outputs = cloud.outputs()
    server = ModelServer(folder / "server", write_archive(folder / "tiny.mar"), workers=1)
    found = cloud.settings().model_copy(update={"server_url": server.gateway.url})
    environment = aws.acting_as(outputs["AirflowRole"]) | found.to_environment()
    airflow = AirflowService(folder / "airflow", Ports.free(), only(folder, DAG), environment, DAG)
    with airflow, server:  # Airflow loads while the server starts
        aws.client("secretsmanager").put_secret_value(
            SecretId=outputs["ServerToken"], SecretString=json.dumps({"key": server.token})
        )
        airflow.wait()
        yield found


Found = TypeVar("Found")


def wait_for(
    look: Callable[[], Found | None], remind: Callable[[], object], expected: str
) -> Found:
    """Return what `look` finds.

    An event that arrives in the moment in which Airflow starts a run waits for the next event:
    `remind` causes one.
    """
    for attempt in range(1, SECONDS + 1):
        if (found := look()) is not None:
            return found
        if attempt % REMIND_SECONDS == 0:
            remind()
        time.sleep(1)
    raise AssertionError(f"no {expected} after {SECONDS} s")


def rows_if(settings: Settings, count: int) -> pa.Table | None:
    """Return the rows of the table if there are at least `count`."""
    table = ResultsTable(settings.results_table)
    return rows if table.open() and (rows := table.read()).num_rows >= count else None


def dead_letters(aws: Emulator, queue: str) -> dict[str, str]:
    """Return the dead letters, body -> reason, without removing them."""
    found = aws.client("sqs").receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
        WaitTimeSeconds=1,
        MessageAttributeNames=[REASON],
    )
    letters = [
        (message["Body"], message["MessageAttributes"][REASON]["StringValue"])
        for message in found.get("Messages", ())
    ]
    assert len(dict(letters)) == len(letters)
    return dict(letters)


def sum_if(aws: Emulator, bucket: str, metric: str, least: float) -> float | None:
    """Return the sum of a metric for a bucket if it is at least `least`."""
    now = datetime.now(UTC)
    points = aws.client("cloudwatch").get_metric_statistics(
        Namespace=METRICS,
        MetricName=metric,
        Dimensions=[{"Name": BUCKET, "Value": bucket}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    total = float(sum(point["Sum"] for point in points))
    return total if total >= least else None


def test_new_objects_are_scored_without_a_listing(
    aws: Emulator, cloud: Installation, settings: Settings
) -> None:
    s3, sqs = aws.client("s3"), aws.client("sqs")
    assert settings.dead_letters
    bucket = settings.images_bucket
    dropped = {"2026/a b+é.jpg": jpeg(1), "broken.jpg": b"no image", "plain.jpg": jpeg(2)}
    # Neither a malformed notification nor one of another bucket affects the others.
    sqs.send_message(QueueUrl=settings.arrivals_queue, MessageBody="no JSON")
    foreign = message(record("theirs.jpg"))
    sqs.send_message(QueueUrl=settings.arrivals_queue, MessageBody=foreign)
    put = partial(s3.put_object, Bucket=bucket)
    for key, data in dropped.items():
        put(Key=key, Body=data)
    remind = partial(put, Key="plain.jpg", Body=dropped["plain.jpg"])

    def rows(count: int) -> list[dict[str, Any]]:
        found = wait_for(lambda: rows_if(settings, count), remind, f"{count} rows")
        return list(found.to_pylist())

    def letters(count: int) -> dict[str, str]:
        def look() -> dict[str, str] | None:
            found = dead_letters(aws, str(settings.dead_letters))
            return found if len(found) >= count else None

        return wait_for(look, remind, f"{count} dead letters")

    scored = rows(len(dropped))
    assert {row["key"]: row["reason"] for row in scored} == {
        "2026/a b+é.jpg": None,
        "broken.jpg": "not_an_image",
        "plain.jpg": None,
    }
    etags = {row["key"]: row["etag"] for row in scored}
    assert etags["plain.jpg"] == json.loads(s3.head_object(Bucket=bucket, Key="plain.jpg")["ETag"])
    reasons = letters(2)
    assert set(reasons) == {"no JSON", foreign}
    assert "malformed" in reasons["no JSON"]
    assert f"bucket is 'photos', not '{bucket}'" in reasons[foreign]
    # Runs emit their metrics after publishing their rows.
    for metric, least in {"ImagesScored": 2, "ImagesRejected": 1, "RunsPublished": 1}.items():
        wait_for(
            partial(sum_if, aws, bucket, metric, least),
            remind,
            f"sum of {metric} of at least {least}",
        )
    # Replayed notifications become dead letters again.
    assert cloud.replay() == 2
    remind = partial(put, Key="plain.jpg", Body=jpeg(3))
    remind()
    put(Key="2026/a b+é.jpg", Body=dropped["2026/a b+é.jpg"])
    assert sorted(row["key"] for row in rows(4)) == sorted([*dropped, "plain.jpg"])
    assert set(letters(2)) == set(reasons)
