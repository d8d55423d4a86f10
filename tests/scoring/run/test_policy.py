"""The policy of scoring runs: the project's file, and overrides by MOODLAKE_POLICY."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from moodlake.scoring.run import policy
from moodlake.scoring.run.policy import POLICY_FILE, Gate, Policy, PolicyError, Prices


@pytest.fixture(autouse=True)
def without_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOODLAKE_POLICY", raising=False)


def test_the_projects_file_states_the_defaults() -> None:
    assert Policy.load() == Policy()


def test_the_projects_file_states_every_value() -> None:
    content = yaml.safe_load(POLICY_FILE.read_text("utf-8"))
    for name, values in content.items():
        assert values.keys() == vars(getattr(Policy(), name)).keys()
    assert content.keys() == vars(Policy()).keys()


def test_reports_hold_no_pixels_by_default() -> None:
    assert Policy.load().report.thumbnails is False


OVERRIDE = {"gate": {"max_broken": 0.5}}
OVERRIDDEN = Policy(gate=Gate(max_broken=0.5))


@pytest.mark.parametrize("text", ["gate: {max_broken: 0.5}", json.dumps(OVERRIDE)])
def test_the_variable_may_hold_the_override_itself(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MOODLAKE_POLICY", text)
    assert Policy.load() == OVERRIDDEN


def test_the_variable_may_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(OVERRIDE))
    monkeypatch.setenv("MOODLAKE_POLICY", str(file))
    assert Policy.load() == OVERRIDDEN
    file.write_text("")
    assert Policy.load() == Policy()


def test_the_variable_may_name_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"s3://ours/policy.yaml": b"gate: {max_broken: 0.5}"}
    monkeypatch.setattr(policy, "read_bytes", objects.get)
    assert Policy.load("s3://ours/policy.yaml") == OVERRIDDEN
    with pytest.raises(PolicyError, match=r"there is no file s3://ours/other\.yaml"):
        Policy.load("s3://ours/other.yaml")


def test_an_empty_variable_overrides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLAKE_POLICY", "")
    assert Policy.load() == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate: {max_broken: 1.5}", r"MOODLAKE_POLICY: gate\.max_broken is 1\.5"),
        ("gate: {max_broken: much}", r"gate\.max_broken is 'much'"),
        ("gate: {typo: 1}", r"gate\.typo is unknown; known are max_broken"),
        ("gate: {min_rows: 2.5}", r"min_rows is 2\.5; it must be a whole number of at least 1"),
        ("prices: 3", "prices is 3"),
        ("drift: {psi: -1}", r"drift\.psi is -1"),
        ("drift: {js_distance: 2}", r"drift\.js_distance is 2; it must be a number from 0 to 1"),
        ("drift: {days: .nan}", r"drift\.days is nan"),
        ("report: {thumbnails: 1}", "thumbnails is 1; it must be true or false"),
        ("gates: {}", "gates is unknown; known are gate, prices"),
        ("scoring: {gate: {max_broken: 0.5}}", "scoring is unknown; known are gate"),
        ("gate: [", "MOODLAKE_POLICY is not YAML"),
        ("absent.yaml", r"there is no file absent\.yaml"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy.load(text)


def test_a_policy_in_params_yaml_is_answered_with_its_new_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("scoring:\n  gate: {max_broken: 0.5}\n")
    monkeypatch.setattr(policy, "PROJECT_ROOT", tmp_path)
    with pytest.raises(
        PolicyError, match=r"section scoring has moved; .*policy\.yaml.*MOODLAKE_POLICY"
    ):
        Policy.load()


def test_the_cost_of_a_million_is_that_of_cores_and_requests() -> None:
    prices = Prices(core_hour=0.36, get_thousand=0.001, list_thousand=0.5)
    # 10 ms of a core each: 10,000 seconds at 0.0001; 1,000 thousands of GETs; 1,000 LISTs.
    assert prices.per_million(core_seconds=2.0, objects=200) == pytest.approx(1.0 + 1.0 + 0.5)
    assert prices.per_million(0.0, 0) is None
