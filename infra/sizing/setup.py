"""The installation that is simulated: its size, its timing, and what fails."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.sizing.rates import IDLE_SECONDS, START_SECONDS, Rates
from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE
from moodlake.scoring.pipeline import MAX_SHARDS


@dataclass(frozen=True)
class Setup:
    """An installation; seconds are of the clock.

    Attributes:
        rates: what work takes.
        shard_size: images in a task, at most.
        max_shards: in a run.
        every: seconds from one scheduled run to the next, which waits for the end of that before.
        slots: scoring tasks at once.
        cores: of the one machine that does everything; None where servers have machines of
            their own.
        workers: of a server, one for each of its cores.
        servers: how many there may be.
        images_a_server: while so many wait for each server, more are asked for.
        start_seconds: until a server that is asked for answers.
        idle_seconds: without work, after which servers stop.
        server_dies: mean seconds from one death of a server to the next; its requests are sent
            again to others, and another one is started.
        task_dies: the same of a scoring task, which begins anew.
        window: a plan lists the prefixes of what came in the last so many seconds, where keys begin
            with their time; None: it lists the bucket.
        in_bucket: objects that are there at the beginning, all scored.
        chunks: requests of a shard that are simulated as one are so many.
    """

    rates: Rates
    shard_size: int = DEFAULT_SHARD_SIZE
    max_shards: int = MAX_SHARDS
    every: float = 3600
    slots: int = 2
    cores: int | None = None
    workers: int = 2
    servers: int = 1
    images_a_server: int = 30_000
    start_seconds: float = START_SECONDS
    idle_seconds: float = IDLE_SECONDS
    server_dies: float = math.inf
    task_dies: float = math.inf
    window: float | None = None
    in_bucket: int = 0
    chunks: int = 16
