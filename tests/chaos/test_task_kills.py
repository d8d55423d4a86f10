"""A task's process is killed at every step of a shard's life; then it is tried again."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.parts import Parts
from tests.chaos.scheduler import Scheduler
from tests.chaos.task import Kill

pytestmark = pytest.mark.e2e

STEPS = "moodlake.scoring.pipeline:"
READER = "moodlake.scoring.sources.s3:ObjectReader"
RESULTS = "moodlake.scoring.tables.results:"
STORAGE = "moodlake.scoring.sources.storage:"
COMMITS = "moodlake.scoring.tables.commits:"
KILLS = {
    "between two shards of the plan": ("plan_run", Kill(f"{STEPS}Staging.write_shard", after=True)),
    "before the plan is whole": ("plan_run", Kill(f"{STEPS}Staging.write_run")),
    "planned and not told": ("plan_run", Kill(f"{STEPS}Staging.write_run", after=True)),
    "after a download": ("score_shard", Kill(f"{READER}.read", after=True, call=5)),
    "in a request": ("score_shard", Kill("httpx:Client.send", call=2, delay=0.004)),
    "after scoring": ("score_shard", Kill(f"{STEPS}Staging.write_rows")),
    "staged and not told": ("score_shard", Kill(f"{STEPS}Staging.write_rows", after=True)),
    "before the commit": (
        "publish",
        Kill(f"{RESULTS}ResultsTable.commit_parts"),
    ),
    "table made, nothing in it": ("publish", Kill(f"{COMMITS}write_deltalake")),
    "committed and not recorded": ("publish", Kill(f"{COMMITS}write_deltalake", after=True)),
    "before the record": ("publish", Kill("moodlake.scoring.tables.runs:write_deltalake")),
    "recorded and not cleared": ("publish", Kill(f"{STEPS}record_run", after=True)),
    "half cleared": (
        "publish",
        Kill(f"{STORAGE}delete", after=True, call=3),
    ),
}


@pytest.mark.parametrize("name", KILLS)
def test_a_task_that_is_killed_is_tried_again(
    parts: Parts, undisturbed: pd.DataFrame, name: str
) -> None:
    step, kill = KILLS[name]
    results = f"killed {name}".replace(" ", "-")
    scheduler = Scheduler(parts.environment(results))
    assert scheduler.run("killed", SHARED, {step: kill})
    assert scheduler.ends[f"{step}: killed"]
    assert_same(rows_of(parts.settings(results)), undisturbed)


@pytest.mark.parametrize(
    "name", ["planned and not told", "staged and not told", "committed and not recorded"]
)
def test_a_new_run_takes_over_from_one_that_was_given_up(
    parts: Parts, undisturbed: pd.DataFrame, name: str
) -> None:
    """Also when somebody has the old one published after that."""
    step, kill = KILLS[name]
    results = f"given up {name}".replace(" ", "-")
    scheduler = Scheduler(parts.environment(results), tries=1)
    assert not scheduler.run("old", SHARED, {step: kill})
    assert scheduler.run("new", SHARED)
    assert scheduler.attempt("publish", "old")
    assert not scheduler.unclear
    assert_same(rows_of(parts.settings(results)), undisturbed)


def test_a_run_that_ended_and_could_not_tell_ends_well_when_it_is_tried_again(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(parts.environment("ended"))
    kill = Kill(f"{STEPS}Staging.clear_shards", after=True)
    assert scheduler.run("ended", SHARED, {"publish": kill})
    assert scheduler.ends["publish: killed"]
    assert_same(rows_of(parts.settings("ended")), undisturbed)
