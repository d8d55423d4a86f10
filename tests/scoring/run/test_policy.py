"""Section `scoring` of params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodlake.scoring.run.policy import Gate, Policy, PolicyError, Prices


def test_the_projects_own_file_is_read() -> None:
    assert Policy.load().gate.min_rows >= 1


def test_no_pixels_are_kept_unless_somebody_asks_for_it() -> None:
    assert Policy.load().report.thumbnails is False


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    assert Policy.load(file) == Policy()
    file.write_text("scoring:\n  gate:\n    max_broken: 0.5\n")
    assert Policy.load(file) == Policy(gate=Gate(max_broken=0.5))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("scoring: {gate: {max_broken: 1.5}}", "gate.max_broken is 1.5"),
        ("scoring: {gate: {max_broken: much}}", "gate.max_broken is 'much'"),
        ("scoring: {gate: {typo: 1}}", "gate.typo is unknown; there are max_broken"),
        ("scoring: {gate: {min_rows: 2.5}}", "min_rows is 2.5; it must be a whole number from 1"),
        ("scoring: {prices: 3}", "prices is 3"),
        ("scoring: {drift: {psi: -1}}", "drift.psi is -1"),
        ("scoring: {drift: {js_distance: 2}}", r"drift.js_distance is 2; it must lie in \[0, 1\]"),
        ("scoring: {drift: {days: .nan}}", "drift.days is nan"),
        ("scoring: {report: {thumbnails: 1}}", "thumbnails is 1; it must be true or false"),
        ("scoring: {gates: {}}", "scoring.gates is unknown"),
        ("scoring: [", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=told):
        Policy.load(file)


def test_the_cost_of_a_million_is_that_of_cores_and_requests() -> None:
    prices = Prices(core_hour=0.36, get_thousand=0.001, list_thousand=0.5)
    # 10 ms of a core each: 10,000 seconds at 0.0001; 1,000 thousands of GETs; 1,000 LISTs.
    assert prices.per_million(core_seconds=2.0, objects=200) == pytest.approx(1.0 + 1.0 + 0.5)
    assert prices.per_million(0.0, 0) is None
