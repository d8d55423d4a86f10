"""The configuration of a simulated installation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.sizing.rates import IDLE_SECONDS, START_SECONDS, Rates
from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE
from moodlake.scoring.pipeline import MAX_SHARDS


@dataclass(frozen=True)
class Setup:
    """An installation; seconds are wall time.

    Attributes:
        rates: durations of work.
        shard_size: most images per task.
        max_shards: most shards per run.
        every: seconds between scheduled runs; a run waits for the end of the one before.
        slots: scoring tasks at once.
        cores: cores of a single machine that does everything; None for separate servers.
        workers: workers per server, one per core.
        servers: most servers at once.
        images_per_server: pending images per server above which servers are added.
        start_seconds: from the request of a server to its first answer.
        idle_seconds: time without work after which servers stop.
        server_dies: mean seconds between deaths of a server; its requests are repeated on others,
            and a new one starts.
        task_dies: mean seconds between deaths of a scoring task, which starts anew.
        window: a plan lists the prefixes of the last `window` seconds, if keys begin with the time;
            None: it lists the bucket.
        in_bucket: scored objects in the bucket at the start.
        chunks: simulated requests per shard; each stands for many.
    """

    rates: Rates
    shard_size: int = DEFAULT_SHARD_SIZE
    max_shards: int = MAX_SHARDS
    every: float = 3600
    slots: int = 2
    cores: int | None = None
    workers: int = 2
    servers: int = 1
    images_per_server: int = 30_000
    start_seconds: float = START_SECONDS
    idle_seconds: float = IDLE_SECONDS
    server_dies: float = math.inf
    task_dies: float = math.inf
    window: float | None = None
    in_bucket: int = 0
    chunks: int = 16
