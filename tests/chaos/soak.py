"""Soak test: kill tasks and servers at random while S3 fails, then check the results table.

`python -m tests.chaos.soak --kills 200 --seed 1` starts and stops its own servers. Runs score a
growing bucket, sometimes two runs at a time, through a proxy that injects faults into a share of
the requests to S3, while SIGKILL hits the tasks, the workers of TorchServe, TorchServe and the S3
server. In the end the table must equal, row for row, that of an undisturbed run. The exit code is 1
if it does not, if a task failed with an error that is not a `UserError`, or if the runs after the
last kill do not complete.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from deltalake import DeltaTable

from infra.local.service import Service
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import list_bucket, s3_client
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.proxy import Fault, FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import RESULTS, Services, kill_service, objects, put, restart

PARAMS = RunParams("soaked", shard_size=16, batch_size=4)
_WEIGHTS = {"task": 80, "worker of TorchServe": 10, "S3": 6, "TorchServe": 4}
_MEAN_INTERVAL_SECONDS = 1.5
FAULTS = tuple(fault for fault in Fault if fault is not Fault.SHORT)
FAULT_SHARE = 0.02
_FIRST_OBJECTS, _MORE_OBJECTS = 100, 16
_MAX_LAST_RUNS = 50


@dataclass
class Soak:
    """A series of disturbed runs and its counts.

    Attributes:
        services: the servers.
        proxy: the proxy between the tasks and S3.
        target: the number of kills to reach.
        seed: the random seed; the instants of the kills also depend on the machine.
        kills: the number of kills by kind of victim.
        rounds: the number of rounds so far.
        runs: the number of runs so far.
        count: the number of objects in the bucket.
    """

    services: Services
    proxy: FaultProxy
    target: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.services.environment("soak", self.proxy.url))

    def go(self, show: Callable[[str], None]) -> None:
        """Start runs until the target number of kills is reached, then until no objects remain.

        Args:
            show: prints a line of progress.

        Raises:
            TaskFailed: objects remain after `_MAX_LAST_RUNS` more runs.
        """
        rng = random.Random(self.seed)
        self._retry(lambda: s3_client().create_bucket(Bucket=PARAMS.bucket))
        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(self._kill_repeatedly, random.Random(self.seed + 1))
            while not killing.done():
                self._round(rng.choice([1, 1, 2]))
                show(f"round {self.rounds}: {self.count} objects, {dict(self.kills)}")
            killing.result()
        self.runs += self.scheduler.until_done("last", PARAMS, _MAX_LAST_RUNS)

    def _round(self, runs: int) -> None:
        """Add objects, and score them with `runs` concurrent runs."""
        more = objects(_MORE_OBJECTS if self.count else _FIRST_OBJECTS, self.count)
        self._retry(lambda: put(s3_client(), PARAMS.bucket, more))
        self.count += len(more)
        self.rounds += 1
        names = [f"round-{self.rounds}-{number}" for number in range(runs)]
        with ThreadPoolExecutor(runs) as pool:
            list(pool.map(lambda name: self.scheduler.run(name, PARAMS), names))
        self.runs += runs

    def _retry(self, action: Callable[[], object]) -> None:
        """Repeat an action until S3 is up and it succeeds."""
        while True:
            try:
                action()
                return
            except (ClientError, BotoCoreError):
                time.sleep(1)

    def _kill_repeatedly(self, rng: random.Random) -> None:
        while self.kills.total() < self.target:
            time.sleep(rng.expovariate(1 / _MEAN_INTERVAL_SECONDS))
            kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            self.kills[kind] += self._kill(kind, rng)

    def _kill(self, kind: str, rng: random.Random) -> bool:
        """Kill one victim of a kind, restart a killed server, and return whether one was found."""
        server = self.services.model_server
        if kind == "task":
            return self.scheduler.kill_one(rng)
        if kind == "worker of TorchServe":
            with contextlib.suppress(psutil.NoSuchProcess):
                if workers := server.workers():
                    rng.choice(workers).kill()
                    return True
            return False
        service: Service = self.services.s3 if kind == "S3" else server.torchserve
        kill_service(service)
        time.sleep(rng.uniform(0, 2))
        restart(service)
        return True


def find_problems(soak: Soak) -> list[str]:
    """Compare with an undisturbed run; return the problems, empty if there are none."""
    services = soak.services
    errors = soak.scheduler.unexpected_errors
    problems = [f"unexpected error x{count}: {error}" for error, count in errors.items()]
    if not Scheduler(services.environment("undisturbed")).run("undisturbed", PARAMS):
        return [*problems, "the undisturbed run failed"]
    undisturbed = rows_of(services.settings("undisturbed"))
    if len(undisturbed) != soak.count:
        problems.append(f"{len(undisturbed)} rows for {soak.count} objects")
    try:
        assert_same(rows_of(services.settings("soak")), undisturbed)
    except AssertionError as error:
        problems.append(f"the table differs: {error}")
    runs = DeltaTable(services.settings("soak").runs_table).to_pyarrow_table().to_pandas()
    if runs.duplicated(["run_id", "started_at"]).any():
        problems.append("a run was recorded twice")
    return problems


def leftovers(services: Services) -> str:
    """Count the files that killed tasks left in the store and that no table references."""
    work = list(list_bucket(s3_client(), RESULTS, "soak/work/"))
    table = DeltaTable(services.settings("soak").results_table)
    orphans = table.vacuum(0, dry_run=True, enforce_retention_duration=False, full=True)
    return f"{len(work)} files in work/, {len(orphans)} data files that VACUUM removes"


def summary(soak: Soak, minutes: float, problems: list[str]) -> str:
    """Return a summary of several lines."""

    def format_counts(counts: Counter[str] | Counter[Fault]) -> str:
        return ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()))

    return "\n".join(
        [
            f"seed {soak.seed}: {soak.kills.total()} kills in {minutes:.1f} minutes",
            f"killed: {format_counts(soak.kills)}",
            f"faults injected into S3 requests: {format_counts(soak.proxy.injected)}",
            f"tasks: {format_counts(soak.scheduler.ends)}",
            f"{soak.rounds} rounds, {soak.runs} runs, {soak.count} objects",
            f"left behind: {leftovers(soak.services)}",
            *problems,
            "the table differs" if problems else "the table equals that of an undisturbed run",
        ]
    )


def main(kills: int, seed: int) -> int:
    """Run the soak test and print its summary; return 1 if there are problems, else 0."""
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder)) as services:
        services.use_s3()
        started = time.monotonic()
        with FaultProxy(services.s3_port, FAULT_SHARE, FAULTS, seed) as proxy:
            soak = Soak(services, proxy, kills, seed)
            soak.go(lambda line: print(line, flush=True))
        minutes = (time.monotonic() - started) / 60
        problems = find_problems(soak)
        print(summary(soak, minutes, problems), flush=True)
    return bool(problems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(**vars(parser.parse_args())))
