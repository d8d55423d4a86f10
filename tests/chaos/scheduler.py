"""Airflow's part in a run, without Airflow: starts the DAG's tasks and tries them again."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from typing import Any

from moodlake.scoring.run.params import RunParams
from tests.chaos.task import Kill, Outcome, perform

# Its children are forks of a process that has imported all and does nothing.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.chaos.warm"])
_RETRY_SECONDS = 0.2


class TaskFailed(Exception):
    """A task that failed as often as it was tried; the message is its last error."""


class Scheduler:
    """Runs the steps as the DAG does, each in a process that may be killed.

    Args:
        environment: of the tasks.
        tries: of each task; the DAG has three.

    Attributes:
        ends: how often tasks ended in which way, by "step: end".
        unclear: errors that were not written for people.
        idle: the last run that was planned found nothing to do.
        last_error: of a task.
    """

    def __init__(self, environment: Mapping[str, str], tries: int = 3) -> None:
        self._environment = dict(environment)
        self._tries = tries
        self._running: list[BaseProcess] = []
        self._lock = threading.Lock()
        self.ends: Counter[str] = Counter()
        self.unclear: Counter[str] = Counter()
        self.idle = False
        self.last_error = ""

    def run(self, run_id: str, params: RunParams, kills: Mapping[str, Kill] | None = None) -> bool:
        """A run of the DAG: plan, score each shard, publish; tells whether it succeeded.

        Args:
            run_id: a name of its own.
            params: what is asked.
            kills: how the first try of a step is killed, by its name.
        """
        kills = kills or {}
        try:
            shards = self.task("plan_run", run_id, params, kill=kills.get("plan_run"))
        except TaskFailed:
            return False
        with self._lock:
            self.idle = not shards
        kill = kills.get("score_shard")
        scored = [self._ends_well("score_shard", run_id, shard, kill=kill) for shard in shards]
        published = self._ends_well("publish", run_id, kill=kills.get("publish"))
        return all(scored) and published

    def until_done(self, name: str, params: RunParams, most: int = 12) -> int:
        """Runs, one after another, until one succeeds and finds nothing to do; tells how many.

        Raises:
            TaskFailed: none did.
        """
        for number in range(1, most + 1):
            if self.run(f"{name}-{number}", params) and self.idle:
                return number
        raise TaskFailed(f"{most} runs were not enough: {self.ends}, {self.last_error}")

    def _ends_well(self, step: str, *arguments: Any, kill: Kill | None) -> bool:
        try:
            self.task(step, *arguments, kill=kill)
        except TaskFailed:
            return False
        return True

    def task(self, step: str, *arguments: Any, kill: Kill | None = None) -> Any:
        """A step, tried as often as the DAG tries it; the first try is killed as told.

        Raises:
            TaskFailed: it did not succeed.
        """
        error = ""
        for attempt in range(self._tries):
            if attempt:
                time.sleep(_RETRY_SECONDS)
            outcome = self.attempt(step, *arguments, kill=None if attempt else kill)
            if outcome is not None and not outcome.error:
                return outcome.value
            error = outcome.error if outcome else "killed"
            if outcome and outcome.final:
                break
        raise TaskFailed(f"{step}: {error}")

    def attempt(self, step: str, *arguments: Any, kill: Kill | None = None) -> Outcome | None:
        """One try in a process of its own; None if it was killed."""
        receiver, sender = _PROCESSES.Pipe(duplex=False)
        job = (step, arguments, self._environment, kill, sender)
        process = _PROCESSES.Process(target=perform, args=job)
        process.start()
        sender.close()
        with self._lock:
            self._running.append(process)
        try:
            outcome: Outcome | None = receiver.recv()
        except EOFError:
            outcome = None
        process.join()
        with self._lock:
            self._running.remove(process)
        self._count(step, outcome)
        return outcome

    def _count(self, step: str, outcome: Outcome | None) -> None:
        end = outcome.error.partition(":")[0] or "done" if outcome else "killed"
        with self._lock:
            self.ends[f"{step}: {end}"] += 1
            if outcome and outcome.error:
                self.last_error = outcome.error
            if outcome and not outcome.translate_errors:
                self.unclear[outcome.error[:300]] += 1

    def kill_one(self, rng: random.Random) -> bool:
        """SIGKILL one of the tasks that run now; False if none does."""
        with self._lock:
            if self._running:
                rng.choice(self._running).kill()
            return bool(self._running)
