"""Run the tasks of the DAG `score_images` in separate processes, as Airflow does."""

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
class BucketScoring:
    """The measurements of scoring a bucket.

    Attributes:
        seconds: from the first plan to the last commit.
        objects: number of scored objects.
        memory: peak resident memory in MB, by kind of task. Airflow runs each task in a new
            process, so for scoring it is measured after the first shard of a process.
        record: record of the last run.
        steps: seconds of all runs by kind of task.
    """

    seconds: float = 0.0
    objects: int = 0
    memory: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))


class Tasks:
    """Processes for planning and publishing, and one scoring process per slot of the pool."""

    def __init__(self, plan: Pool, score: Pool, publish: Pool) -> None:
        self._pools = {"plan": plan, "score": score, "publish": publish}

    def score_bucket(self, params: RunParams) -> BucketScoring:
        """Run until no object of a bucket is pending."""
        taken, started = BucketScoring(), time.perf_counter()
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
    """Start new processes, which the current environment points at the services."""
    spawn = multiprocessing.get_context("spawn")
    with (
        spawn.Pool(1, as_airflow) as plan,
        spawn.Pool(POOL_SLOTS, as_airflow) as score,
        spawn.Pool(1, as_airflow) as publish,
    ):
        yield Tasks(plan, score, publish)


def as_airflow() -> None:
    """Import the modules that Airflow has loaded when a task starts."""
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    logging.disable(logging.INFO)  # the import enables it


def _plan(run_id: str, params: RunParams) -> list[str]:
    return pipeline.plan_run(run_id, params, Settings.from_environment())


def _score(shard: tuple[str, str]) -> tuple[int, float]:
    pipeline.score_shard(*shard, Settings.from_environment())
    return os.getpid(), peak_memory()


def _publish(run_id: str) -> dict[str, Any]:
    return pipeline.publish(run_id, Settings.from_environment())


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB.

    `getrusage` would include that of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )
