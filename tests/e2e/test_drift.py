"""Drift over runs of a bucket whose images change, and its reports."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.client import BaseClient
from PIL import ImageEnhance, ImageOps
from typer.testing import CliRunner

from infra.stack import Stack
from moodlake.cli import app
from moodlake.scoring import pipeline
from moodlake.scoring.reports.drift import LAST_RUNS, TRAINING
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.policy import Policy
from tests.e2e.steps import fill, run_dag, score_all
from tests.images_made import encode, jpeg, picture

pytestmark = pytest.mark.e2e

BUCKET = "drifting"
COUNT = Policy.load().drift.min_images + 20


def dark(seed: int) -> bytes:
    """A picture inverted and darkened."""
    inverted = ImageOps.invert(picture(seed))
    return encode(ImageEnhance.Brightness(inverted).enhance(0.3), "JPEG")


def scored(stack: Stack, run_id: str) -> dict[str, Any]:
    """The record of a run over what is new in the bucket."""
    params = RunParams(BUCKET, faces="none")
    score_all(run_id, pipeline.plan_run(run_id, params, stack.settings))
    return pipeline.publish(run_id, stack.settings)


def compared(record: dict[str, Any], against: str) -> dict[str, Any]:
    comparisons = json.loads(record["drift"])["comparisons"]
    return {item["measure"]: item for item in comparisons if item["against"] == against}


def test_different_images_drift_and_similar_ones_do_not(stack: Stack, s3: BaseClient) -> None:
    fill(s3, BUCKET, {f"first/{seed}.jpg": jpeg(seed) for seed in range(COUNT)})
    first = scored(stack, "drift-1")
    assert compared(first, TRAINING)["brightness"]["breached"] is not None
    assert compared(first, LAST_RUNS)["brightness"]["breached"] is None
    for seed in range(COUNT, 2 * COUNT):
        s3.put_object(Bucket=BUCKET, Key=f"alike/{seed}.jpg", Body=jpeg(seed))
    alike = compared(scored(stack, "drift-2"), LAST_RUNS)
    assert alike["brightness"]["breached"] is False
    assert alike["size"]["psi"] == pytest.approx(0, abs=1e-6)
    for seed in range(COUNT):
        s3.put_object(Bucket=BUCKET, Key=f"dark/{seed}.jpg", Body=dark(seed))
    darker = scored(stack, "drift-3")
    assert darker["drifted"] is True
    assert compared(darker, LAST_RUNS)["brightness"]["breached"] is True
    assert compared(darker, LAST_RUNS)["size"]["breached"] is False
    page = CliRunner().invoke(app, ["report", "drift-3"])
    assert page.exit_code == 0, page.output
    bucket, _, prefix = stack.settings.results_uri.removeprefix("s3://").partition("/")
    stored = s3.get_object(Bucket=bucket, Key=f"{prefix}reports/drift-3/run.html")
    assert stored["ContentType"] == "text/html"
    assert "differs" in stored["Body"].read().decode()


def test_a_run_of_the_dag_writes_its_report(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "paged", {"one.jpg": jpeg()})
    assert run_dag(stack, bucket="paged", faces="none") == "success"
    bucket, _, prefix = stack.settings.results_uri.removeprefix("s3://").partition("/")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}reports/")["Contents"]
    pages = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed]
    assert any(b"s3://paged/" in page for page in pages)
