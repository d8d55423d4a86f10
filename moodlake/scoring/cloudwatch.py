"""Metrics of runs in CloudWatch, for alarms and for scaling the model server.

Runs emit them if MOODLAKE_METRICS names a namespace. A failure to write metrics stops no run.
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
"""Dimension of all metrics: the bucket that a run reads."""
REMAINING = "ImagesWaiting"
"""Images still to be scored, by this run or by later ones."""
SCORED = "ImagesScored"
REJECTED = "ImagesRejected"
DRIFT = "Drift"
"""1 if a run's images or predictions drifted, else 0; absent if there are too few to judge."""
PUBLISHED = "RunsPublished"
"""1 for each run that published all planned shards, even if there were none."""
FAILED = "RunsFailed"
"""1 for each run with shards that were not published."""
UNITS = {
    REMAINING: "Count",
    SCORED: "Count",
    REJECTED: "Count",
    DRIFT: "None",
    PUBLISHED: "Count",
    FAILED: "Count",
}
_QUICK = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})


def run_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a finished run, from its row of the runs table."""
    complete = record["problem"] is None
    metrics = {
        REMAINING: max(0, record["waiting"] - record["objects"]),
        SCORED: record["scored"],
        REJECTED: record["rejected"],
        PUBLISHED: int(complete),
        FAILED: int(not complete),
    }
    if record["drifted"] is not None:
        metrics[DRIFT] = int(record["drifted"])
    return metrics


def emit(settings: Settings, bucket: str, collect: Callable[[], Mapping[str, float]]) -> None:
    """Write metrics of runs over a bucket, if the installation has a namespace for them.

    Args:
        settings: settings with the namespace.
        bucket: bucket of the images.
        collect: returns the values by metric name. Its UserErrors are logged, too.
    """
    if not settings.metrics:
        return
    dimensions = [{"Name": BUCKET, "Value": bucket}]
    try:
        data = [
            {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": UNITS[name]}
            for name, value in collect().items()
        ]
        # boto3 itself reads only AWS_DEFAULT_REGION.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
        client = session.client("cloudwatch", config=_QUICK)
        client.put_metric_data(Namespace=settings.metrics, MetricData=data)
    except (ClientError, BotoCoreError, UserError) as error:
        log.warning(
            "cannot write metrics to namespace %s: %s; check MOODLAKE_METRICS and the permission "
            "cloudwatch:PutMetricData",
            settings.metrics,
            error,
        )
