"""A discrete-event simulation of an installation: arrivals, runs, shards, scaling servers.

It shows what averages hide: queues and idle time. Its parts behave like the code: one run at a time
takes the oldest images, up to `max_shards` shards; a shard's requests queue for the servers'
workers; rows are published at the end of their run.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import simpy

from infra.sizing.fleet import Cores, Fleet
from infra.sizing.setup import Setup

Steps = Generator[simpy.Event, Any, None]
_RETRY = 80.0
"""Seconds until the task of a dead worker runs again; measured, see docs/measurements.md."""


@dataclass
class Outcome:
    """The result of a simulation.

    Attributes:
        runs: images and seconds of each run.
        delays: seconds from arrival to row, and the number of images.
        max_pending: most images without a row at any time.
        pending: images without a row at the end.
        server_seconds: seconds that separate servers ran, their start included.
        max_servers: most servers at once.
        tasks: started scoring tasks.
        ended: time of the last published row.
    """

    runs: list[tuple[int, float]] = field(default_factory=list)
    delays: list[tuple[float, int]] = field(default_factory=list)
    max_pending: int = 0
    pending: int = 0
    server_seconds: float = 0.0
    max_servers: int = 0
    tasks: int = 0
    ended: float = 0.0

    @property
    def images(self) -> int:
        """The number of images with a row."""
        return sum(count for count, _ in self.runs)

    def delay(self, share: float) -> float:
        """Return the seconds within which a share (0 to 1) of images got a row; nan if none."""
        left = share * sum(count for _, count in self.delays)
        for seconds, count in sorted(self.delays):
            left -= count
            if left <= 0:
                return seconds
        return math.nan


def daily(images: int, bins: int = 1440) -> list[tuple[float, int]]:
    """Return a day's arrivals in equal bins, few at night and most at noon.

    Returns:
        Seconds and images; `images` in total, twice the mean at peak.
    """
    shares = [1 - math.cos(2 * math.pi * (index + 0.5) / bins) for index in range(bins)]
    marks = [round(images * part / sum(shares)) for part in itertools.accumulate(shares)]
    counts = [after - before for before, after in zip([0, *marks], marks, strict=False)]
    return [((index + 0.5) * 86_400 / bins, count) for index, count in enumerate(counts) if count]


def simulate(
    setup: Setup, arrivals: Iterable[tuple[float, int]], until: float, seed: int = 0
) -> Outcome:
    """Simulate an installation.

    Args:
        setup: the installation.
        arrivals: times in seconds, and numbers of images.
        until: end in seconds; earlier if every image has its row.
        seed: for random deaths.
    """
    simulation = _Simulation(setup, sorted(arrivals), seed)
    simulation.env.run(until=simpy.AnyOf(simulation.env, simulation.ends(until)))
    return simulation.result()


class _Simulation:
    def __init__(self, setup: Setup, arrivals: list[tuple[float, int]], seed: int) -> None:
        self.env = simpy.Environment()
        self._setup = setup
        self._outcome = Outcome()
        self._queue: deque[tuple[float, int]] = deque()
        self._left = sum(count for _, count in arrivals)
        self._in_bucket = setup.in_bucket
        self._arrived: deque[tuple[float, int]] = deque()
        self._random = random.Random(seed)
        self._slots = simpy.Resource(self.env, setup.slots)
        self._done = self.env.event()
        self._pending = 0
        self._reported = 0
        self._machine: Cores | Fleet
        if setup.cores:
            self._machine = self._scheduler = Cores(self.env, setup.cores)
        else:
            self._machine = Fleet(self.env, setup, self._random, lambda: self._reported)
            self._scheduler = Cores(self.env, 1)
        self.env.process(self._arrive(arrivals))
        self.env.process(self._schedule())

    def ends(self, until: float) -> list[simpy.Event]:
        return [self._done, self.env.timeout(until)]

    def result(self) -> Outcome:
        outcome = self._outcome
        outcome.pending = self._pending
        if isinstance(self._machine, Fleet):
            outcome.server_seconds = self._machine.seconds()
            outcome.max_servers = self._machine.max_servers
        return outcome

    def _arrive(self, arrivals: list[tuple[float, int]]) -> Steps:
        for at, count in arrivals:
            yield self.env.timeout(max(0.0, at - self.env.now))  # rounding may overshoot `at`
            self._queue.append((at, count))
            self._arrived.append((at, count))
            self._in_bucket += count
            self._pending += count
            self._outcome.max_pending = max(self._outcome.max_pending, self._pending)

    def _schedule(self) -> Steps:
        while True:
            started = self.env.now
            yield self.env.process(self._run())
            if self._left == 0:
                self._done.succeed()
                return
            passed = self.env.now - started
            # A late run starts at the end of the one before.
            yield self.env.timeout(max(0.0, self._setup.every - passed))

    def _run(self) -> Steps:
        setup, rates, started = self._setup, self._setup.rates, self.env.now
        yield self.env.timeout(rates.airflow_run)
        yield from self._machine.wake()
        listed = self._in_bucket if setup.window is None else self._since(started - setup.window)
        seen = sum(count for _, count in self._queue)
        yield self.env.timeout(rates.plan + listed * rates.key)
        # The autoscaling only knows what runs report.
        self._reported = self._pending
        taken = self._take(min(seen, setup.max_shards * setup.shard_size))
        images = sum(count for _, count in taken)
        full, rest = divmod(images, setup.shard_size)
        sizes = [setup.shard_size] * full + [rest] * (rest > 0)
        yield self.env.all_of([self.env.process(self._shard(size)) for size in sizes])
        yield self.env.timeout(rates.publish + images * rates.row)
        now = self.env.now
        self._outcome.delays += [(now - at, count) for at, count in taken]
        self._outcome.runs.append((images, now - started))
        self._pending -= images
        self._left -= images
        self._outcome.ended = now
        self._reported = 0  # nothing is reported between runs

    def _since(self, at: float) -> int:
        """Return the number of arrivals since a time, and forget earlier ones."""
        while self._arrived and self._arrived[0][0] < at:
            self._arrived.popleft()
        return sum(count for _, count in self._arrived)

    def _take(self, most: int) -> list[tuple[float, int]]:
        """Take at most this many of the oldest images."""
        taken = []
        while self._queue and most:
            at, count = self._queue.popleft()
            if count > most:
                self._queue.appendleft((at, count - most))
                count = most
            taken.append((at, count))
            most -= count
        return taken

    def _shard(self, images: int) -> Steps:
        while True:
            with self._slots.request() as slot:
                yield slot
                self._outcome.tasks += 1
                yield from self._start_task()
                if self._random.random() < self._risk(images):
                    # It dies at a random moment, and its work is lost.
                    yield from self._score(images * self._random.random())
                else:
                    yield from self._score(images)
                    self._reported -= images
                    return
            yield self.env.timeout(_RETRY)

    def _start_task(self) -> Steps:
        rates = self._setup.rates
        if self._setup.cores:
            yield from self._scheduler.work(rates.airflow_task)
        else:  # the task's own part runs on another core
            yield from self._scheduler.work(rates.scheduler_task)
            yield self.env.timeout(rates.airflow_task - rates.scheduler_task)

    def _risk(self, images: float) -> float:
        """Return the probability that a shard's task dies."""
        rates = self._setup.rates
        return 1 - math.exp(-(rates.shard + images * rates.image) / self._setup.task_dies)

    def _score(self, images: float) -> Steps:
        setup, rates = self._setup, self._setup.rates
        if setup.cores:
            yield from self._machine.work(rates.shard)
            each = images * (rates.image + rates.task_image) / setup.chunks
        else:
            yield self.env.timeout(rates.shard)
            each = images * rates.image / setup.chunks
        work = [self.env.process(self._machine.work(each)) for _ in range(setup.chunks)]
        yield self.env.all_of(work)
