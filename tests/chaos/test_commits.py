"""The commit itself: killed at any instant of it, cut off, and raced for."""

from __future__ import annotations

import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from moodlake.scoring.run.params import RunParams
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.parts import Parts
from tests.chaos.proxy import FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.chaos.task import Kill

pytestmark = pytest.mark.e2e

COMMIT = re.compile(r"/results/_delta_log/0*1\.json")
RECORD = re.compile(r"/runs/_delta_log/0*1\.json")


@pytest.mark.parametrize("entry", [COMMIT, RECORD], ids=["results", "record"])
@pytest.mark.parametrize(
    ("instant", "killed"),
    [("arrived", True), ("done", True), ("done", False)],
    ids=["killed before", "killed after", "cut off after"],
)
def test_a_commit_that_ends_on_its_way_is_made_once(
    parts: Parts, undisturbed: pd.DataFrame, entry: re.Pattern[str], instant: str, killed: bool
) -> None:
    """The entry of Delta's log is lost on the way there, or the answer on the way back."""
    results = f"{'killed' if killed else 'cut'}-{instant}-{RECORD is entry}"
    met = threading.Event()

    def end_once(method: str, path: str) -> bool:
        if method != "PUT" or not entry.search(path) or met.is_set():
            return False
        met.set()
        return not killed or scheduler.kill_one(random.Random())

    with FaultProxy(parts.s3_port) as proxy:
        scheduler = Scheduler(parts.environment(results, proxy.url))
        setattr(proxy, instant, end_once)
        assert scheduler.run("run", SHARED)
    assert met.is_set()
    assert scheduler.ends["publish: killed"] == killed
    assert_same(rows_of(parts.settings(results)), undisturbed)


def test_a_commit_that_is_killed_at_random_instants_is_made_once(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(parts.environment("during"))
    shards = scheduler.task("plan_run", "during", SHARED)
    for shard in shards:
        scheduler.task("score_shard", "during", shard)
    rng = random.Random(5)
    for _ in range(6):
        kill = Kill("moodlake.scoring.tables.commits:write_deltalake", delay=rng.uniform(0, 0.06))
        scheduler.attempt("publish", "during", kill=kill)
    assert scheduler.ends["publish: killed"]
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(parts.settings("during")), undisturbed)


def test_two_processes_that_commit_one_shard_write_its_rows_once(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    """As when a task is taken for dead and started again."""
    scheduler = Scheduler(parts.environment("twice"))
    for shard in scheduler.task("plan_run", "twice", SHARED):
        scheduler.task("score_shard", "twice", shard)
    with ThreadPoolExecutor(3) as pool:
        tries = [pool.submit(scheduler.attempt, "publish", "twice") for _ in range(3)]
    assert any(outcome and not outcome.error for outcome in (each.result() for each in tries))
    assert not scheduler.unclear
    assert_same(rows_of(parts.settings("twice")), undisturbed)


def test_runs_that_race_over_a_bucket_write_each_row_once(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    scheduler = Scheduler(parts.environment("raced"))
    sizes = {f"raced-{size}": RunParams(SHARED.bucket, shard_size=size) for size in (7, 12)}
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(scheduler.run, sizes, sizes.values()))
    assert_same(rows_of(parts.settings("raced")), undisturbed)
