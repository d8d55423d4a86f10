"""What runs tell CloudWatch, for alarms and for the model server's scaling.

They do where MOODLAKE_METRICS names a namespace. A metric that cannot be written stops no run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from moodlake.errors import UserError
from moodlake.settings import Settings

log = logging.getLogger(__name__)

BUCKET = "Bucket"
"""The dimension of all of them: the bucket that a run reads."""
WAITING = "ImagesWaiting"
"""Planned, by this run or for later ones, and not scored yet."""
SCORED = "ImagesScored"
REJECTED = "ImagesRejected"
DRIFT = "Drift"
"""1 where a run's images or predictions drifted, 0 where not; not told of too few to judge."""
PUBLISHED = "RunsPublished"
"""1 for each run that published all it planned, also where there was nothing to do."""
FAILED = "RunsFailed"
"""1 for each run of which a part was not published."""
UNITS = {
    WAITING: "Count",
    SCORED: "Count",
    REJECTED: "Count",
    DRIFT: "None",
    PUBLISHED: "Count",
    FAILED: "Count",
}
_QUICK = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})


def of_record(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a run that ended, from its row of the table of runs."""
    complete = record["problem"] is None
    told = {
        WAITING: max(0, record["waiting"] - record["objects"]),
        SCORED: record["scored"],
        REJECTED: record["rejected"],
        PUBLISHED: int(complete),
        FAILED: int(not complete),
    }
    if record["drifted"] is not None:
        told[DRIFT] = int(record["drifted"])
    return told


def tell(settings: Settings, bucket: str, found: Callable[[], Mapping[str, float]]) -> None:
    """Write metrics of runs over a bucket, if the installation wants them.

    Args:
        settings: name the installation's namespace.
        bucket: of the images.
        found: gives the values by name; what it asks may be out of reach as well.
    """
    if not settings.metrics:
        return
    dimensions = [{"Name": BUCKET, "Value": bucket}]
    try:
        data = [
            {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": UNITS[name]}
            for name, value in found().items()
        ]
        # boto3 by itself reads AWS_DEFAULT_REGION only.
        client = boto3.client("cloudwatch", region_name=os.environ.get("AWS_REGION"), config=_QUICK)
        client.put_metric_data(Namespace=settings.metrics, MetricData=data)
    except (ClientError, BotoCoreError, UserError) as error:
        log.warning(
            "metrics are not written to %s: %s; check MOODLAKE_METRICS and the permission "
            "cloudwatch:PutMetricData",
            settings.metrics,
            error,
        )
