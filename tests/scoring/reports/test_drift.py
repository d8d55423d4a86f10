"""Verdicts on drift, and runs without a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from moodlake.prediction import FaceMode, FacePrediction, Prediction
from moodlake.profile import Profile
from moodlake.reasons import Reason
from moodlake.scoring.reports.drift import (
    LAST_RUNS,
    MEASURES,
    TRAINING,
    compare,
    has_drifted,
    js_distance,
    judge,
    psi,
)
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.policy import Drift
from moodlake.scoring.run.staging import Run
from moodlake.scoring.tables.runs import RUNS_SCHEMA, record_run
from moodlake.scoring.tables.summary import profile_of
from tests.scoring.rows import MODEL, SPACE, planned, row, table

POLICY = Drift()
HISTOGRAM = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)
NOW = datetime(2026, 1, 8, tzinfo=UTC)


@given(HISTOGRAM, HISTOGRAM)
def test_both_statistics_are_distances(one: dict[str, int], other: dict[str, int]) -> None:
    for distance in (psi, js_distance):
        assert distance(one, one) == pytest.approx(0, abs=1e-6)
        assert distance(one, other) == pytest.approx(distance(other, one))
        assert distance(one, other) >= 0
    assert js_distance(one, other) <= 1


@given(HISTOGRAM, HISTOGRAM)
def test_the_jensen_shannon_distance_is_scipys(one: dict[str, int], other: dict[str, int]) -> None:
    p, q = ([counts.get(name, 0) for name in "abcdef"] for counts in (one, other))
    assert js_distance(one, other) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-6)


def test_the_index_is_that_of_the_formula() -> None:
    # 0.2 and 0.8 against 0.5 and 0.5; half an image more changes next to nothing.
    expected = (0.2 - 0.5) * np.log(0.2 / 0.5) + (0.8 - 0.5) * np.log(0.8 / 0.5)
    found = psi({"a": 200_000, "b": 800_000}, {"a": 500_000, "b": 500_000})
    assert found == pytest.approx(expected, rel=1e-4)
    assert psi({"a": 1000}, {"b": 1000}) < 100  # empty bins leave it finite


def many(count: int, brightness: float = 0.5, seed: int = 0) -> Profile:
    rng = np.random.default_rng(seed)
    light = np.clip(rng.normal(brightness, 0.1, count), 0, 1)
    sizes = rng.integers(50, 300, count)
    outcomes = {"scored": count, "no_face": count // 20}
    distributions = rng.dirichlet(np.ones(8), count)
    return Profile.of(SPACE, distributions, brightness=light, sizes=sizes, outcomes=outcomes)


def breaches(run: Profile, reference: Profile | None) -> dict[str, bool | None]:
    return {item.measure: item.breached for item in compare(run, reference, TRAINING, POLICY)}


def test_alike_images_breach_nothing() -> None:
    assert breaches(many(400), many(4000, seed=1)) == dict.fromkeys(MEASURES, False)


def test_darker_images_breach_brightness_alone() -> None:
    dark = breaches(many(400, 0.2), many(4000, seed=1))
    assert dark == dict.fromkeys(MEASURES, False) | {"brightness": True}


def test_more_rejects_breach() -> None:
    rejecting = replace(many(400), outcomes={"scored": 400, "no_face": 200})
    assert breaches(rejecting, many(4000))["outcomes"] is True


def test_few_images_are_not_judged() -> None:
    for run, reference in ((many(50, 0.1), many(4000)), (many(400, 0.1), many(50))):
        comparisons = compare(run, reference, LAST_RUNS, POLICY)
        assert has_drifted(comparisons) is None
        for item in comparisons:
            assert item.psi is not None
            assert f"{POLICY.min_images} are needed" in str(item.why)


def test_what_the_reference_does_not_know_is_not_judged() -> None:
    unknown = replace(many(4000), size={}, outcomes={})
    found = breaches(many(400), unknown)
    assert found == dict.fromkeys(MEASURES, False) | {"size": None, "outcomes": None}
    assert has_drifted(compare(many(400), None, TRAINING, POLICY)) is None


def prediction(**changes: Any) -> Prediction:
    probabilities = np.eye(8)[1]
    made = Prediction.scored(
        probabilities, SPACE, width=640, height=480, format="JPEG", brightness=0.25
    )
    return replace(made, **changes)


def test_rows_become_a_profile() -> None:
    face = FacePrediction(0, 0, 40, 90, 0.9, {})
    photo = row("photo", prediction=prediction(faces=(face,))) | {"face_mode": FaceMode.LARGEST}
    rejected = row("b", reason=Reason.NO_FACE) | {"face_mode": FaceMode.LARGEST}
    old = row("old", prediction=prediction(brightness=None))
    made = profile_of(table(photo, rejected, row("a", prediction=prediction()), old), SPACE)
    assert made.dominant == {"happiness": 3}
    assert made.brightness == {"0.2": 2}
    assert made.size == {"256": 2, "32": 1}
    assert made.outcomes == {"scored": 3, "no_face": 1}
    assert profile_of(table(rejected), SPACE).scored == 0
    assert profile_of(table(), SPACE) == Profile.empty()


def comparisons_of(columns: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    comparisons = json.loads(columns["drift"])["comparisons"]
    return {(item["against"], item["measure"]): item for item in comparisons}


def run(**changes: Any) -> Run:
    return planned(run_id="now", started_at=NOW.isoformat(), **changes)


def record(uri: str, name: str, days_ago: float, profile: Profile | None, **other: Any) -> None:
    ended = NOW - timedelta(days=days_ago)
    about: Mapping[str, Any] = {
        "run_id": name,
        "bucket": "bucket",
        "model_digest": MODEL.digest,
        "started_at": ended,
        "ended_at": ended,
        "params": json.dumps(asdict(RunParams("bucket"))),
        "profile": json.dumps(profile.to_dict()) if profile else None,
    }
    record_run(uri, dict.fromkeys(RUNS_SCHEMA.names) | about | other)


def test_a_run_is_compared_with_those_of_the_last_week_of_its_bucket_and_model(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path / "runs")
    dark, light = many(150, 0.25, seed=1), many(150, 0.75, seed=2)
    record(uri, "one", 1, dark)
    record(uri, "two", 6, dark)
    record(uri, "without", 2, None)
    for name, days, other in (
        ("too old", 8, {}),
        ("elsewhere", 1, {"bucket": "other"}),
        ("another model", 1, {"model_digest": "e" * 64}),
        ("whole images", 1, {"params": json.dumps(asdict(RunParams("bucket", faces="none")))}),
    ):
        record(uri, name, days, light, **other)
    rows = table(*(row(str(number), prediction=prediction()) for number in range(250)))
    columns = judge(run(), profile_of(rows, SPACE), uri, POLICY)
    compared = comparisons_of(columns)
    expected = compare(profile_of(rows, SPACE), dark + dark, LAST_RUNS, POLICY)
    for item in expected:
        assert compared[LAST_RUNS, item.measure] == item.to_dict()
    assert compared[TRAINING, "emotions"]["breached"] is None
    references = json.loads(columns["drift"])["references"]
    assert references == {TRAINING: None, LAST_RUNS: (dark + dark).to_dict()}
    assert columns["drifted"] is True
    assert Profile.from_dict(json.loads(columns["profile"])) == profile_of(rows, SPACE)


def test_the_first_run_is_compared_with_the_models_reference(tmp_path: Path) -> None:
    reference = replace(many(4000, 0.75), outcomes={}).to_dict()
    rows = table(*(row(str(number), prediction=prediction()) for number in range(250)))
    about = run(reference=reference)
    columns = judge(about, profile_of(rows, SPACE), str(tmp_path / "runs"), POLICY)
    compared = comparisons_of(columns)
    assert compared[TRAINING, "brightness"]["breached"] is True
    assert compared[TRAINING, "outcomes"]["breached"] is None
    assert compared[LAST_RUNS, "brightness"]["breached"] is None
