"""Runs over a bucket whose images drift, and their HTML reports."""

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
from tests.e2e.steps import fill, score_all
from tests.images_made import encode, jpeg, picture

pytestmark = pytest.mark.e2e

BUCKET = "drifting"
COUNT = Policy.load().drift.min_images + 20


def dark(seed: int) -> bytes:
    """Return an inverted and darkened picture as a JPEG."""
    inverted = ImageOps.invert(picture(seed))
    return encode(ImageEnhance.Brightness(inverted).enhance(0.3), "JPEG")


def score_new(stack: Stack, run_id: str) -> dict[str, Any]:
    """Score the new objects of the bucket; return the record of the run."""
    params = RunParams(BUCKET, faces="none")
    score_all(run_id, pipeline.plan_run(run_id, params, stack.settings))
    return pipeline.publish(run_id, stack.settings)


def drift(record: dict[str, Any], against: str) -> dict[str, Any]:
    """Return the drift comparisons with one reference, by measure."""
    comparisons = json.loads(record["drift"])["comparisons"]
    return {item["measure"]: item for item in comparisons if item["against"] == against}


def test_drift_is_found_in_different_images_and_not_in_similar_ones(
    stack: Stack, s3: BaseClient
) -> None:
    fill(s3, BUCKET, {f"first/{seed}.jpg": jpeg(seed) for seed in range(COUNT)})
    first = score_new(stack, "drift-1")
    assert drift(first, TRAINING)["brightness"]["breached"] is not None
    assert drift(first, LAST_RUNS)["brightness"]["breached"] is None
    for seed in range(COUNT, 2 * COUNT):
        s3.put_object(Bucket=BUCKET, Key=f"similar/{seed}.jpg", Body=jpeg(seed))
    similar = drift(score_new(stack, "drift-2"), LAST_RUNS)
    assert similar["brightness"]["breached"] is False
    assert similar["size"]["psi"] == pytest.approx(0, abs=1e-6)
    for seed in range(COUNT):
        s3.put_object(Bucket=BUCKET, Key=f"dark/{seed}.jpg", Body=dark(seed))
    darker = score_new(stack, "drift-3")
    assert darker["drifted"] is True
    assert drift(darker, LAST_RUNS)["brightness"]["breached"] is True
    assert drift(darker, LAST_RUNS)["size"]["breached"] is False
    done = CliRunner().invoke(app, ["report", "drift-3"])
    assert done.exit_code == 0, done.output
    bucket, _, prefix = stack.settings.results_uri.removeprefix("s3://").partition("/")
    stored = s3.get_object(Bucket=bucket, Key=f"{prefix}reports/drift-3/run.html")
    assert stored["ContentType"] == "text/html"
    assert "differs" in stored["Body"].read().decode()
