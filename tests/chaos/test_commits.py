"""Commits that are killed at any instant, cut off, or made concurrently."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from moodlake.scoring.run.params import RunParams
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.proxy import FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services
from tests.chaos.task import Kill

pytestmark = pytest.mark.e2e

RESULTS = re.compile(r"/results/_delta_log/0*1\.json")
RECORD = re.compile(r"/runs/_delta_log/0*1\.json")


@pytest.mark.parametrize(
    ("hook", "killed"),
    [("on_request", True), ("on_response", True), ("on_response", False)],
    ids=["killed before", "killed after", "cut off after"],
)
def test_an_interrupted_commit_is_made_once(
    services: Services, undisturbed: pd.DataFrame, hook: str, killed: bool
) -> None:
    """The request that writes an entry of Delta's log is lost, or its response is.

    A run commits to two tables; the first attempt of each commit is interrupted.
    """
    results = f"{'killed' if killed else 'cut'}-{hook}"
    entries = [RESULTS, RECORD]

    def interrupt_once(method: str, path: str) -> bool:
        if method != "PUT" or not entries or not entries[0].search(path):
            return False
        del entries[0]
        return not killed or scheduler.kill_one(random.Random())

    with FaultProxy(services.s3_port) as proxy:
        scheduler = Scheduler(services.environment(results, proxy.url))
        setattr(proxy, hook, interrupt_once)
        assert scheduler.run("run", SHARED)
    assert not entries
    assert scheduler.ends["publish: killed"] == 2 * killed
    assert_same(rows_of(services.settings(results)), undisturbed)


def test_a_commit_killed_at_random_instants_is_made_once(
    services: Services, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(services.environment("during"))
    shards = scheduler.task("plan_run", "during", SHARED)
    for shard in shards:
        scheduler.task("score_shard", "during", shard)
    rng = random.Random(5)
    for _ in range(6):
        kill = Kill("moodlake.scoring.tables.commits:write_deltalake", delay=rng.uniform(0, 0.06))
        scheduler.attempt("publish", "during", kill=kill)
    assert scheduler.ends["publish: killed"]
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(services.settings("during")), undisturbed)


def test_concurrent_commits_of_a_shard_write_its_rows_once(
    services: Services, undisturbed: pd.DataFrame
) -> None:
    """As when a task that is presumed dead is started again."""
    scheduler = Scheduler(services.environment("twice"))
    for shard in scheduler.task("plan_run", "twice", SHARED):
        scheduler.task("score_shard", "twice", shard)
    with ThreadPoolExecutor(3) as pool:
        attempts = [pool.submit(scheduler.attempt, "publish", "twice") for _ in range(3)]
    assert any(outcome and not outcome.error for outcome in (each.result() for each in attempts))
    assert not scheduler.unexpected_errors
    assert_same(rows_of(services.settings("twice")), undisturbed)


def test_concurrent_runs_over_a_bucket_write_each_row_once(
    services: Services, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(services.environment("raced"))
    sizes = {f"raced-{size}": RunParams(SHARED.bucket, shard_size=size) for size in (7, 12)}
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(scheduler.run, sizes, sizes.values()))
    assert_same(rows_of(services.settings("raced")), undisturbed)
