"""A stand-in for Airflow that starts the DAG's tasks and retries them."""

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

# Tasks are forked from an idle process that has all modules imported.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.chaos.warm"])
_RETRY_SECONDS = 0.2


class TaskFailed(Exception):
    """All attempts of a task failed; the message is its last error."""


class Scheduler:
    """Runs the steps as the DAG does, each in a process that may be killed.

    Args:
        environment: the environment of the tasks.
        attempts: the number of attempts of each task; the DAG has three.

    Attributes:
        ends: the number of attempts by "step: end"; an end is "done", "killed" or an error's class.
        unexpected_errors: the number of errors that are not a `UserError`, by message.
        idle: whether the last planned run found no objects to score.
        last_error: the last error of any task.
    """

    def __init__(self, environment: Mapping[str, str], attempts: int = 3) -> None:
        self._environment = dict(environment)
        self._attempts = attempts
        self._running: list[BaseProcess] = []
        self._lock = threading.Lock()
        self.ends: Counter[str] = Counter()
        self.unexpected_errors: Counter[str] = Counter()
        self.idle = False
        self.last_error = ""

    def run(self, run_id: str, params: RunParams, kills: Mapping[str, Kill] | None = None) -> bool:
        """Plan a run, score each shard and publish; return whether all tasks succeeded.

        Args:
            run_id: a unique name.
            params: the parameters of the run.
            kills: how to kill the first attempt of a step, by the step's name.
        """
        kills = kills or {}
        try:
            shards = self.task("plan_run", run_id, params, kill=kills.get("plan_run"))
        except TaskFailed:
            return False
        with self._lock:
            self.idle = not shards
        kill = kills.get("score_shard")
        scored = [self._succeeds("score_shard", run_id, shard, kill=kill) for shard in shards]
        published = self._succeeds("publish", run_id, kill=kills.get("publish"))
        return all(scored) and published

    def until_done(self, name: str, params: RunParams, max_runs: int = 12) -> int:
        """Start runs, one at a time, until one succeeds without objects to score; return the count.

        Raises:
            TaskFailed: none of `max_runs` runs did.
        """
        for number in range(1, max_runs + 1):
            if self.run(f"{name}-{number}", params) and self.idle:
                return number
        raise TaskFailed(f"Objects remain after {max_runs} runs: {self.ends}, {self.last_error}")

    def _succeeds(self, step: str, *arguments: Any, kill: Kill | None) -> bool:
        try:
            self.task(step, *arguments, kill=kill)
        except TaskFailed:
            return False
        return True

    def task(self, step: str, *arguments: Any, kill: Kill | None = None) -> Any:
        """Run a step with retries, and return its value; `kill` applies to the first attempt.

        Raises:
            TaskFailed: all attempts failed.
        """
        error = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(_RETRY_SECONDS)
            outcome = self.attempt(step, *arguments, kill=None if attempt else kill)
            if outcome is not None and not outcome.error:
                return outcome.value
            error = outcome.error if outcome else "killed"
            if outcome and outcome.no_retry:
                break
        raise TaskFailed(f"{step}: {error}")

    def attempt(self, step: str, *arguments: Any, kill: Kill | None = None) -> Outcome | None:
        """Run a step once, in a separate process; None if the process was killed."""
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
            if outcome and not outcome.is_user_error:
                self.unexpected_errors[outcome.error[:300]] += 1

    def kill_one(self, rng: random.Random) -> bool:
        """Send SIGKILL to a random running task; False if none is running."""
        with self._lock:
            if self._running:
                rng.choice(self._running).kill()
            return bool(self._running)
