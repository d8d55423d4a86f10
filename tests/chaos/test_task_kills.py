"""A task is killed at each step of a shard's life, then retried."""

from __future__ import annotations

from itertools import zip_longest

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
    "plan_run": {
        "between two shards of the plan": Kill(f"{STEPS}Staging.write_shard", after=True),
        "before the plan is complete": Kill(f"{STEPS}Staging.write_run"),
        "planned and not reported": Kill(f"{STEPS}Staging.write_run", after=True),
    },
    "score_shard": {
        "after a download": Kill(f"{READER}.read", after=True, call=5),
        "during a request": Kill("httpx:Client.send", call=2, delay=0.004),
        "after scoring": Kill(f"{STEPS}Staging.write_rows"),
        "staged and not reported": Kill(f"{STEPS}Staging.write_rows", after=True),
    },
    "publish": {
        "before the commit": Kill(f"{RESULTS}ResultsTable.commit_parts"),
        "table created and empty": Kill(f"{COMMITS}write_deltalake"),
        "committed and not recorded": Kill(f"{COMMITS}write_deltalake", after=True),
        "before the record": Kill("moodlake.scoring.tables.runs:write_deltalake"),
        "recorded and not cleared": Kill(f"{STEPS}record_run", after=True),
        "partly cleared": Kill(f"{STORAGE}delete", after=True, call=3),
        "cleared and not reported": Kill(f"{STEPS}Staging.clear_shards", after=True),
    },
}
"""Step -> point at which its first attempt is killed."""
ROUNDS = list(zip_longest(*KILLS.values()))
"""A point of each step; every point is in one round."""


@pytest.mark.parametrize("points", ROUNDS, ids=lambda points: ", ".join(filter(None, points)))
def test_killed_tasks_are_retried(
    services: Services, undisturbed: pd.DataFrame, points: tuple[str | None, ...]
) -> None:
    kills = {
        step: kills[point]
        for (step, kills), point in zip(KILLS.items(), points, strict=True)
        if point
    }
    results = f"killed {points[-1]}".replace(" ", "-")
    scheduler = Scheduler(services.environment(results))
    assert scheduler.run("killed", SHARED, kills)
    for step in kills:
        assert scheduler.ends[f"{step}: killed"]
    assert_same(rows_of(services.settings(results)), undisturbed)


@pytest.mark.parametrize(
    ("step", "point"),
    [
        ("plan_run", "planned and not reported"),
        ("score_shard", "staged and not reported"),
        ("publish", "committed and not recorded"),
    ],
)
def test_a_new_run_takes_over_from_an_abandoned_one(
    services: Services, undisturbed: pd.DataFrame, step: str, point: str
) -> None:
    """Publishing the abandoned run afterwards changes nothing."""
    results = f"abandoned {point}".replace(" ", "-")
    scheduler = Scheduler(services.environment(results), attempts=1)
    assert not scheduler.run("old", SHARED, {step: KILLS[step][point]})
    assert scheduler.run("new", SHARED)
    assert scheduler.attempt("publish", "old")
    assert not scheduler.unexpected_errors
    assert_same(rows_of(services.settings(results)), undisturbed)
