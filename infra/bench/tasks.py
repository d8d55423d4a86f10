"""The tasks of the DAG `score_images` in processes of their own, as Airflow runs them."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from infra.local.airflow import POOL_SLOTS
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.settings import Settings

KINDS = ("plan", "score", "publish")


@dataclass
class Taken:
    """What a scoring of a bucket took.

    Attributes:
        seconds: from the first plan to the last commit.
        objects: that it brought into the table.
        memory: peak resident memory in MB, by kind of task. Airflow gives each task a process of
            its own; so for scoring it is that of a process after its first shard.
        record: of the last run.
        steps: seconds of all runs by kind of task.
    """

    seconds: float = 0.0
    objects: int = 0
    memory: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))


class Tasks:
    """Processes for planning and publishing, and one for each slot of the pool for scoring."""

    def __init__(self, plan: Pool, score: Pool, publish: Pool) -> None:
        self._pools = {"plan": plan, "score": score, "publish": publish}

    def score_bucket(self, params: RunParams) -> Taken:
        """Runs over a bucket until nothing waits any more."""
        taken, started = Taken(), time.perf_counter()
        first_shards: dict[int, float] = {}
        while True:
            run_id = f"bench-{time.monotonic_ns()}"
            marks = [time.perf_counter()]
            shards = self._call("plan", _plan, run_id, params)
            marks.append(time.perf_counter())
            named = [(run_id, each) for each in shards]
            for process, peak in self._pools["score"].imap_unordered(_score, named):
                first_shards.setdefault(process, peak)
            marks.append(time.perf_counter())
            taken.record = self._call("publish", _publish, run_id)
            marks.append(time.perf_counter())
            for kind, (begin, end) in zip(KINDS, itertools.pairwise(marks), strict=True):
                taken.steps[kind] += end - begin
            taken.objects += taken.record["objects"]
            if taken.record["waiting"] == taken.record["objects"]:
                break
        taken.seconds = time.perf_counter() - started
        taken.memory = {kind: self._call(kind, peak_memory) for kind in ("plan", "publish")}
        taken.memory["score"] = max(first_shards.values())
        return taken

    def _call(self, kind: str, function: Any, *arguments: Any) -> Any:
        return self._pools[kind].apply(function, arguments)


@contextmanager
def tasks() -> Iterator[Tasks]:
    """Fresh processes, which the environment of now leads to the services."""
    spawn = multiprocessing.get_context("spawn")
    with (
        spawn.Pool(1, as_airflow) as plan,
        spawn.Pool(POOL_SLOTS, as_airflow) as score,
        spawn.Pool(1, as_airflow) as publish,
    ):
        yield Tasks(plan, score, publish)


def as_airflow() -> None:
    """Load what Airflow has loaded when a task begins."""
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    logging.disable(logging.INFO)  # which it has switched on


def _plan(run_id: str, params: RunParams) -> list[str]:
    return pipeline.plan_run(run_id, params, Settings.from_environment())


def _score(shard: tuple[str, str]) -> tuple[int, float]:
    pipeline.score_shard(*shard, Settings.from_environment())
    return os.getpid(), peak_memory()


def _publish(run_id: str) -> dict[str, Any]:
    return pipeline.publish(run_id, Settings.from_environment())


def peak_memory() -> float:
    """The most memory that this process has had, resident, in MB.

    `getrusage` would count what the process that started it had, too.
    """
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )
