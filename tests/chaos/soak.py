"""Does the table come out right however often the parts are killed, and with S3 failing at that?

`python -m tests.chaos.soak --kills 200 --seed 1` starts its own servers, and stops them. Runs go on
over a bucket that grows, sometimes two at a time, through a proxy that spoils a share of the
requests to S3, while SIGKILL hits the tasks, the workers of TorchServe, TorchServe and the S3
server. In the end the table must be, row for row, that of an undisturbed run. It ends with 1 if it
is not, if a task failed without an error for people, or if the runs after the last kill do not
come to an end.
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
from tests.chaos.parts import RESULTS, Parts, kill_all_of, objects, put, restart
from tests.chaos.proxy import Fault, FaultProxy
from tests.chaos.scheduler import Scheduler

PARAMS = RunParams("soaked", shard_size=16, batch_size=4)
_SHARES = {"task": 80, "worker of TorchServe": 10, "S3": 6, "TorchServe": 4}
_SECONDS_BETWEEN = 1.5
FAULTS = tuple(fault for fault in Fault if fault is not Fault.SHORT)
FAULT_SHARE = 0.02
_FIRST, _MORE = 100, 16
_LAST_RUNS = 50


@dataclass
class Soak:
    """Runs that are disturbed, and what came of them.

    Attributes:
        parts: the servers.
        proxy: between the tasks and S3.
        target: how often to kill.
        seed: of chance; the instants depend on the machine, too.
        kills: how often what was killed.
        rounds, runs, count: how many so far, and how many objects there are.
    """

    parts: Parts
    proxy: FaultProxy
    target: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.parts.environment("soak", self.proxy.url))

    def go(self, show: Callable[[str], None]) -> None:
        """Disturb until there were enough kills, then run until all is done.

        Raises:
            TaskFailed: it does not come to an end.
        """
        rng = random.Random(self.seed)
        self._patiently(lambda: s3_client().create_bucket(Bucket=PARAMS.bucket))
        with ThreadPoolExecutor(1) as pool:
            striking = pool.submit(self._strike_on, random.Random(self.seed + 1))
            while not striking.done():
                self._round(rng.choice([1, 1, 2]))
                show(f"round {self.rounds}: {self.count} objects, {dict(self.kills)}")
            striking.result()
        self.runs += self.scheduler.until_done("last", PARAMS, _LAST_RUNS)

    def _round(self, racing: int) -> None:
        """New objects, and one run over them, or two at a time."""
        more = objects(_MORE if self.count else _FIRST, self.count)
        self._patiently(lambda: put(s3_client(), PARAMS.bucket, more))
        self.count += len(more)
        self.rounds += 1
        names = [f"round-{self.rounds}-{number}" for number in range(racing)]
        with ThreadPoolExecutor(racing) as pool:
            list(pool.map(lambda name: self.scheduler.run(name, PARAMS), names))
        self.runs += racing

    def _patiently(self, act: Callable[[], object]) -> None:
        """Also while S3 is away."""
        while True:
            try:
                act()
                return
            except (ClientError, BotoCoreError):
                time.sleep(1)

    def _strike_on(self, rng: random.Random) -> None:
        while self.kills.total() < self.target:
            time.sleep(rng.expovariate(1 / _SECONDS_BETWEEN))
            kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
            self.kills[kind] += self._strike(kind, rng)

    def _strike(self, kind: str, rng: random.Random) -> bool:
        """SIGKILL one of a kind, and start again what does not do so by itself."""
        server = self.parts.server
        if kind == "task":
            return self.scheduler.kill_one(rng)
        if kind == "worker of TorchServe":
            with contextlib.suppress(psutil.NoSuchProcess):
                if workers := server.workers():
                    rng.choice(workers).kill()
                    return True
            return False
        service: Service = self.parts.s3 if kind == "S3" else server.torchserve
        kill_all_of(service)
        time.sleep(rng.uniform(0, 2))
        restart(service)
        return True


def verdict(soak: Soak) -> list[str]:
    """What is wrong; empty if the table is that of an undisturbed run."""
    parts = soak.parts
    problems = [f"{count} x in no words: {what}" for what, count in soak.scheduler.unclear.items()]
    if not Scheduler(parts.environment("undisturbed")).run("undisturbed", PARAMS):
        return [*problems, "the undisturbed run failed"]
    undisturbed = rows_of(parts.settings("undisturbed"))
    if len(undisturbed) != soak.count:
        problems.append(f"{len(undisturbed)} rows of {soak.count} objects")
    try:
        assert_same(rows_of(parts.settings("soak")), undisturbed)
    except AssertionError as error:
        problems.append(f"the table differs: {error}")
    runs = DeltaTable(parts.settings("soak").runs_table).to_pyarrow_table().to_pandas()
    if runs.duplicated(["run_id", "started_at"]).any():
        problems.append("a run was recorded twice")
    return problems


def left_behind(parts: Parts) -> str:
    """What kills left in the store that no table refers to."""
    work = list(list_bucket(s3_client(), RESULTS, "soak/work/"))
    table = DeltaTable(parts.settings("soak").results_table)
    loose = table.vacuum(0, dry_run=True, enforce_retention_duration=False, full=True)
    return f"{len(work)} files of runs in work/, {len(loose)} data files that VACUUM removes"


def summary(soak: Soak, minutes: float, problems: list[str]) -> str:
    """For people, in lines."""

    def told(counts: Counter[str] | Counter[Fault]) -> str:
        return ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()))

    return "\n".join(
        [
            f"seed {soak.seed}: {soak.kills.total()} kills in {minutes:.1f} minutes",
            f"killed: {told(soak.kills)}",
            f"requests to S3 that were spoilt: {told(soak.proxy.happened)}",
            f"tasks: {told(soak.scheduler.ends)}",
            f"{soak.rounds} rounds, {soak.runs} runs, {soak.count} objects",
            f"left behind: {left_behind(soak.parts)}",
            *problems,
            "the table differs" if problems else "the table equals that of an undisturbed run",
        ]
    )


def main(kills: int, seed: int) -> int:
    """Soak, and tell of it; 1 if something is wrong."""
    with tempfile.TemporaryDirectory() as folder, Parts(Path(folder)) as parts:
        parts.point_here()
        started = time.monotonic()
        with FaultProxy(parts.s3_port, FAULT_SHARE, FAULTS, seed) as proxy:
            soak = Soak(parts, proxy, kills, seed)
            soak.go(lambda line: print(line, flush=True))
        minutes = (time.monotonic() - started) / 60
        problems = verdict(soak)
        print(summary(soak, minutes, problems), flush=True)
    return bool(problems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(**vars(parser.parse_args())))
