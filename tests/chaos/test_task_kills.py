"""A task is killed at each step of a shard's life, then retried."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services
from tests.chaos.task import Kill

pytestmark = pytest.mark.e2e

STEPS = "moodlake.scoring.pipeline:"
READER = "moodlake.scoring.sources.s3:ObjectReader"
RESULTS = "moodlake.scoring.tables.results:"
STORAGE = "moodlake.scoring.sources.storage:"
COMMITS = "moodlake.scoring.tables.commits:"
KILLS = {
    "between two shards of the plan": ("plan_run", Kill(f"{STEPS}Staging.write_shard", after=True)),
    "before the plan is complete": ("plan_run", Kill(f"{STEPS}Staging.write_run")),
    "planned and not reported": ("plan_run", Kill(f"{STEPS}Staging.write_run", after=True)),
    "after a download": ("score_shard", Kill(f"{READER}.read", after=True, call=5)),
    "during a request": ("score_shard", Kill("httpx:Client.send", call=2, delay=0.004)),
    "after scoring": ("score_shard", Kill(f"{STEPS}Staging.write_rows")),
    "staged and not reported": ("score_shard", Kill(f"{STEPS}Staging.write_rows", after=True)),
    "before the commit": (
        "publish",
        Kill(f"{RESULTS}ResultsTable.commit_parts"),
    ),
    "table created and empty": ("publish", Kill(f"{COMMITS}write_deltalake")),
    "committed and not recorded": ("publish", Kill(f"{COMMITS}write_deltalake", after=True)),
    "before the record": ("publish", Kill("moodlake.scoring.tables.runs:write_deltalake")),
    "recorded and not cleared": ("publish", Kill(f"{STEPS}record_run", after=True)),
    "partly cleared": (
        "publish",
        Kill(f"{STORAGE}delete", after=True, call=3),
    ),
}


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_task_is_retried(services: Services, undisturbed: pd.DataFrame, name: str) -> None:
    step, kill = KILLS[name]
    results = f"killed {name}".replace(" ", "-")
    scheduler = Scheduler(services.environment(results))
    assert scheduler.run("killed", SHARED, {step: kill})
    assert scheduler.ends[f"{step}: killed"]
    assert_same(rows_of(services.settings(results)), undisturbed)


@pytest.mark.parametrize(
    "name", ["planned and not reported", "staged and not reported", "committed and not recorded"]
)
def test_a_new_run_takes_over_from_an_abandoned_one(
    services: Services, undisturbed: pd.DataFrame, name: str
) -> None:
    """Publishing the abandoned run afterwards changes nothing."""
    step, kill = KILLS[name]
    results = f"abandoned {name}".replace(" ", "-")
    scheduler = Scheduler(services.environment(results), attempts=1)
    assert not scheduler.run("old", SHARED, {step: kill})
    assert scheduler.run("new", SHARED)
    assert scheduler.attempt("publish", "old")
    assert not scheduler.unexpected_errors
    assert_same(rows_of(services.settings(results)), undisturbed)


def test_a_publish_killed_after_its_last_step_succeeds_when_retried(
    services: Services, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(services.environment("ended"))
    kill = Kill(f"{STEPS}Staging.clear_shards", after=True)
    assert scheduler.run("ended", SHARED, {"publish": kill})
    assert scheduler.ends["publish: killed"]
    assert_same(rows_of(services.settings("ended")), undisturbed)
