"""Measure the rates of infra/sizing, and compare simulated with measured runs of Airflow.

`python -m infra.bench.sizing` starts and stops its own services; `--write` stores the results in
infra/sizing/measured.toml. The rates come from the server alone, and from runs without Airflow or
with few images; whole runs of Airflow then test the simulation. Goal: within 15 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from infra.bench.images import encoded, photos_with_faces
from infra.bench.score import BUCKET, fill, services
from infra.bench.serve import Server, rate
from infra.bench.tasks import BucketScoring, Tasks, tasks
from infra.local.airflow import POOL_SLOTS
from infra.local.ports import HOST
from infra.sizing.rates import MEASURED, Measured, Rates
from infra.sizing.setup import Setup
from infra.sizing.simulation import simulate
from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.settings import Settings

_DISTINCT = 100
_SERVED = 2_048
_SCORED = 2_048
_BATCH = 16
_IN_FLIGHT = 4
_TINY = 20
_KEYS = 10_000
_RUNS = ((4_096, 1_024), (2_048, 128))
"""Images, and images per shard, of the runs that test the simulation."""
_TURNS = 2
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Run:
    """A run of Airflow: wall seconds, and CPU seconds of its scheduler."""

    seconds: float
    scheduler: float


class Measurement:
    """Runs on one stack, each over new images."""

    def __init__(self, stack: Stack, processes: Tasks, images: list[bytes]) -> None:
        self._stack = stack
        self._processes = processes
        self._images = images
        self._prefixes = 0
        self._server = Server((HOST, stack.ports.gateway), stack.gateway.token)

    def served(self) -> float:
        """Return images per second of the server alone."""
        images = [self._images[index % _DISTINCT] for index in range(_SERVED)]
        batches = [images[start : start + _BATCH] for start in range(0, _SERVED, _BATCH)]
        return rate(self._server.score, batches, _IN_FLIGHT)

    def bare(self, count: int, shard_size: int) -> BucketScoring:
        """Measure a run without Airflow."""
        return self._processes.score_bucket(
            RunParams(BUCKET, self._filled(count), shard_size=shard_size)
        )

    def scheduled(self, count: int, shard_size: int) -> Run:
        """Measure a run of Airflow from its trigger to its end."""
        conf = {"bucket": BUCKET, "prefix": self._filled(count), "shard_size": shard_size}
        airflow = self._stack.airflow
        work, started = self._scheduler(), time.perf_counter()
        airflow.follow(airflow.client.trigger("score_images", conf), lambda line: None)
        return Run(time.perf_counter() - started, self._scheduler() - work)

    def planned(self, count: int) -> float:
        """Return the seconds of planning over `count` new keys."""
        params, started = RunParams(BUCKET, self._filled(count)), time.perf_counter()
        pipeline.plan_run(f"bench-{self._prefixes}", params, Settings.from_environment())
        return time.perf_counter() - started

    def _filled(self, count: int) -> str:
        self._prefixes += 1
        prefix = f"{self._prefixes}/"
        fill(prefix, self._images, count)
        return prefix

    def _scheduler(self) -> float:
        """Return the CPU seconds of the scheduler so far, without its tasks."""
        times = psutil.Process(self._stack.airflow.children["airflow-scheduler"].pid).cpu_times()
        return float(times.user + times.system)


def rates(measured: Measurement, announce: Callable[[str], None]) -> Rates:
    """Compute the rates from the server alone, runs without Airflow, and runs of few images."""
    announce("warming up")
    measured.bare(512, 128)
    measured.scheduled(1, 1)
    served = [measured.served()]
    announce("runs without Airflow")
    one, tiny = measured.bare(1, 1), measured.bare(_TINY, 1)
    scored = measured.bare(_SCORED, _SCORED // 4)
    served.append(measured.served())
    announce("runs of Airflow with few images")
    empties = [measured.scheduled(1, 1) for _ in range(_TURNS)]
    empty, shards = min(empties, key=lambda run: run.seconds), measured.scheduled(_TINY, 1)
    announce(f"planning over {_KEYS:,} keys")
    keys = measured.planned(_KEYS)
    image = _CORES / float(np.mean(served))
    shard = _CORES * tiny.steps["score"] / _TINY - image
    more = _TINY - 1
    airflow_task = _CORES * (shards.seconds - empty.seconds - _total(tiny) + _total(one)) / more
    row = max(0.0, (scored.steps["publish"] - tiny.steps["publish"]) / (_SCORED - _TINY))
    return Rates(
        image=image,
        task_image=(_CORES * scored.steps["score"] - 4 * shard) / _SCORED - image,
        shard=shard,
        airflow_task=airflow_task,
        scheduler_task=(shards.scheduler - empty.scheduler) / more,
        airflow_run=empty.seconds - _total(one) - airflow_task,
        plan=tiny.steps["plan"],
        key=(keys - tiny.steps["plan"]) / (_KEYS - _TINY),
        publish=tiny.steps["publish"] - _TINY * row,
        row=row,
    )


def _total(taken: BucketScoring) -> float:
    return sum(taken.steps.values())


def predicted_seconds(found: Rates, images: int, shard_size: int, cores: int = _CORES) -> float:
    """Return the simulated seconds of a run of Airflow on one machine."""
    setup = Setup(found, shard_size=shard_size, slots=POOL_SLOTS, cores=cores)
    return simulate(setup, [(0, images)], until=86_400).ended


def measure(announce: Callable[[str], None]) -> tuple[Rates, list[Measured], Table]:
    """Run the benchmark; return the rates, the measured runs, and a table."""
    images = [encoded(photo) for photo in photos_with_faces(_DISTINCT)]
    out = Table("", "measured", "simulated", "error", title="moodlake bench: the simulation")
    with services(announce) as stack, tasks() as processes:
        measured = Measurement(stack, processes, images)
        found = rates(measured, announce)
        for name, value in asdict(found).items():
            out.add_row(f"{name}, s", f"{value:.5f}", "", "")
        runs = []
        for count, shard_size in _RUNS:
            for _ in range(_TURNS):
                announce(f"run of Airflow with {count:,} images in shards of {shard_size:,}")
                seconds = measured.scheduled(count, shard_size).seconds
                runs.append(Measured(count, shard_size, round(seconds, 1)))
                predicted = predicted_seconds(found, count, shard_size)
                what = f"{count:,} images in shards of {shard_size:,}, s (goal within 15 %)"
                out.add_row(
                    what, f"{seconds:.1f}", f"{predicted:.1f}", f"{predicted / seconds - 1:+.1%}"
                )
    return found, runs, out


def write(found: Rates, runs: list[Measured]) -> None:
    """Store the rates for `Rates.measured`, and the runs for `Measured.runs`."""
    head = MEASURED.read_text("utf-8").partition("[rates]")[0].splitlines()
    comment = [line for line in head if line.startswith("#")]
    lines = [f"{name} = {value:.6f}" for name, value in asdict(found).items()]
    text = [*comment, f'dated = "{date.today()}"', f"cores = {_CORES}", "", "[rates]", *lines]
    for run in runs:
        text += ["", "[[runs]]", *(f"{name} = {value}" for name, value in asdict(run).items())]
    MEASURED.write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="store the rates in infra/sizing/measured.toml"
    )
    options = parser.parse_args()
    console = Console()
    found, runs, shown = measure(lambda line: console.print(f"[dim]›[/] {line}"))
    console.print(shown)
    if options.write:
        write(found, runs)
