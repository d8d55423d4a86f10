"""`moodlake doctor` on working and on faulty installations."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner, Result

from infra.doctor import CHECKS, examine
from infra.doctor.finding import State
from infra.stack import Stack
from moodlake.cli import app
from moodlake.scoring.run.params import RunParams
from moodlake.settings import Settings
from tests.e2e.steps import fill, finish
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e


def doctor(*options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *options])


def states(**changed: str) -> dict[str, State]:
    """Return the state of each check, with some environment variables changed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        return {name: found.state for name, found in examine(Settings.from_environment())}


def test_a_working_stack_passes(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "checked", {"a.jpg": jpeg(1)})
    finish(stack, "doctor", RunParams("checked"))
    result = doctor()
    assert result.exit_code == 0, result.output
    for part in ("versions", "clock", "images", "results", "model server", "Airflow"):
        assert f"✓ {part}: " in result.output
    assert "tables: the last run, " in result.output
    assert "can be written and read" in result.output
    left = s3.list_objects_v2(Bucket="moodlake-results", Prefix="work/doctor-")
    assert "Contents" not in left


def test_the_local_stack_is_found_without_environment_variables(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in stack.settings.to_environment():
        monkeypatch.delenv(name)
    assert "✓ model server" in doctor("--state", str(stack.state)).output


def test_a_missing_installation_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings(server_keys=tmp_path, airflow_url="x").to_environment():
        monkeypatch.delenv(name, raising=False)
    result = doctor("--state", str(tmp_path))
    assert result.exit_code == 1
    assert "no local stack is running" in result.output


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"MOODLAKE_SERVER_URL": "http://127.0.0.1:1"}, {"model server"}),
        ({"MOODLAKE_IMAGES_BUCKET": "nobodys"}, {"images"}),
        ({"MOODLAKE_RESULTS_URI": "/proc/nowhere"}, {"results"}),
        ({"MOODLAKE_AIRFLOW_URL": "http://127.0.0.1:1"}, {"Airflow"}),
        ({"MOODLAKE_ARRIVALS_QUEUE": "http://127.0.0.1:1/queue"}, {"notifications"}),
        ({"AWS_SECRET_ACCESS_KEY": "another"}, {"images", "results", "tables"}),
    ],
)
def test_failing_checks_are_named_and_hide_no_others(
    stack: Stack, changed: dict[str, str], failing: set[str]
) -> None:
    found = states(**changed)
    assert found.keys() == CHECKS.keys()
    assert {name for name, state in found.items() if state is State.BAD} == failing


def test_an_unset_bucket_is_not_checked(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOODLAKE_IMAGES_BUCKET")
    monkeypatch.delenv("MOODLAKE_RESULTS_URI")
    found = states()
    for name in ("clock", "images", "results", "tables"):
        assert found[name] is State.ABSENT
    assert found["model server"] is State.GOOD


def test_a_broken_table_is_reported_and_hides_no_others(stack: Stack, tmp_path: Path) -> None:
    log = tmp_path / "runs" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("no JSON\n", "utf-8")
    found = states(MOODLAKE_RESULTS_URI=str(tmp_path))
    assert found.keys() == CHECKS.keys()
    assert {name for name, state in found.items() if state is State.BAD} == {"tables"}


def test_an_on_demand_server_is_not_waited_for(stack: Stack) -> None:
    started = time.monotonic()
    found = states(MOODLAKE_SERVER_URL="http://127.0.0.1:1", MOODLAKE_SERVER_WAIT="900")
    assert found["model server"] is State.DOUBTFUL
    assert time.monotonic() - started < 300


def test_a_wrong_token_is_reported_with_its_variable(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"key": "wrong"}))
    monkeypatch.setenv("MOODLAKE_SERVER_KEYS", str(keys))
    result = doctor()
    assert result.exit_code == 1
    assert "✗ model server: " in result.output
    assert "MOODLAKE_SERVER_KEYS" in result.output


def test_a_wrong_clock_is_reported(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime, timedelta

    class Fast(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(minutes=5)

    monkeypatch.setattr("infra.doctor.stores.datetime", Fast)
    result = doctor()
    found = re.search(r"! clock: (\d+) s ahead of S3's", result.output)
    assert found, result.output
    # S3 reports whole seconds, and a busy machine takes a few to get them.
    assert abs(int(found[1]) - 300) < 20
    assert "NTP" in result.output
