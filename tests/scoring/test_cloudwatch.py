"""Metrics of runs in CloudWatch."""

from __future__ import annotations

from typing import Any

import pytest

from moodlake.scoring import cloudwatch
from moodlake.scoring.sources.objects import SourceError
from moodlake.settings import Settings

RECORD = {
    "problem": None,
    "waiting": 1000,
    "objects": 400,
    "scored": 300,
    "rejected": 100,
    "drifted": False,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"ImagesWaiting": 600, "ImagesRejected": 100, "Drift": 0, "RunsPublished": 1}),
        ({"drifted": True}, {"Drift": 1}),
        ({"problem": "1 of 2 shards"}, {"RunsPublished": 0, "RunsFailed": 1}),
        # An object that was tried before may be taken beside those that wait.
        ({"waiting": 300}, {"ImagesWaiting": 0}),
    ],
)
def test_a_run_tells_how_it_ended(changed: dict[str, Any], expected: dict[str, float]) -> None:
    metrics = cloudwatch.run_metrics(RECORD | changed)
    assert {name: metrics[name] for name in expected} == expected
    assert metrics.keys() == cloudwatch.UNITS.keys()


def test_a_run_that_is_too_small_to_judge_is_a_success_and_ends_no_alarm() -> None:
    metrics = cloudwatch.run_metrics(RECORD | {"objects": 1, "drifted": None})
    assert metrics["RunsPublished"] == 1
    assert cloudwatch.UNITS.keys() - metrics.keys() == {"Drift"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return warnings of this module only."""
    return [record.message for record in caplog.records if record.name == cloudwatch.__name__]


def test_metrics_that_cannot_be_written_stop_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    cloudwatch.emit(Settings(), "photos", lambda: {"ImagesScored": 1})
    assert not warnings(caplog)
    cloudwatch.emit(Settings(metrics="moodlake"), "photos", lambda: {"ImagesScored": 1})
    (warning,) = warnings(caplog)
    assert "cannot write metrics to namespace moodlake" in warning
    assert "MOODLAKE_METRICS" in warning


def test_what_cannot_be_counted_for_them_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def count() -> dict[str, float]:
        raise SourceError("cannot list s3://results/work: SlowDown")

    cloudwatch.emit(Settings(), "photos", count)
    cloudwatch.emit(Settings(metrics="moodlake"), "photos", count)
    (warning,) = warnings(caplog)
    assert "SlowDown" in warning
