"""The limits that a load exceeds, and the remedies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.aws.template import template
from infra.sizing.cost import DAYS, Load, cores_per_server
from infra.sizing.rates import Rates
from moodlake.scoring.defaults import MAX_SHARD_SIZE
from moodlake.scoring.pipeline import MAX_SHARDS

_DAY = 86_400
_PEAK = 2.0
"""Ratio of a day's peak to its mean; see `simulation.daily`."""
PREFIX_GETS = 5_500
"""Requests a second that S3 answers under one prefix (AWS, "Optimizing Amazon S3 performance")."""
MESSAGES = 100
"""Messages that Airflow's watcher takes from the queue in a poll; see dags/score_on_arrival.py."""
POLL_SECONDS = 2.0
OPENED_IDS = 1_000_000
"""Shard ids in Delta's log: reading them takes 0.8 s and 320 MB whenever the table is opened
(250,000 of them 0.2 s and 80 MB, docs/measurements.md)."""


@dataclass(frozen=True)
class ExceededLimit:
    """A limit that a load exceeds.

    Attributes:
        name: description, with the unit.
        demand: what the load needs.
        limit: what the installation provides.
        remedy: what to do.
    """

    name: str
    demand: float
    limit: float
    remedy: str


def exceeded_limits(load: Load, rates: Rates) -> list[ExceededLimit]:
    """Return the limits that a load exceeds, the worst first."""
    exceeded = [each for each in _limits(load, rates) if each.demand > each.limit]
    return sorted(exceeded, key=lambda each: each.limit / each.demand)


def _limits(load: Load, rates: Rates) -> Iterator[ExceededLimit]:
    peak = _PEAK * load.images / _DAY
    every = _DAY / load.runs
    shards = load.images / load.shard_size
    largest = load.shard_size >= MAX_SHARD_SIZE
    larger = "more installations" if largest else f"shards of {MAX_SHARD_SIZE:,}"
    yield ExceededLimit(
        "images that the scheduled runs can take in a day",
        load.images,
        load.runs * MAX_SHARDS * load.shard_size,
        f"{larger}, and more runs a day (schedule in dags/score_images.py)",
    )
    if not load.inventory:
        yield ExceededLimit(
            "seconds to list the bucket, per run",
            load.keys * rates.key,
            every / 2,
            "begin keys with the time, and let runs list only recent prefixes (parameter prefix); "
            "for a backlog, plan from an S3 Inventory (parameter inventory)",
        )
    yield ExceededLimit(
        "seconds a day that the scheduler needs to start tasks",
        shards * rates.scheduler_task,
        _DAY / 2,
        f"{larger}; beyond that, split the images between installations",
    )
    yield from _of_size(load, rates)
    yield ExceededLimit(
        "images a second under one prefix at peak",
        peak,
        PREFIX_GETS,
        "spread the keys over prefixes",
    )
    if load.notified:
        yield ExceededLimit(
            "notifications a second at peak",
            peak,
            MESSAGES / POLL_SECONDS,
            "turn notifications off; scheduled runs find new images",
        )
    yield ExceededLimit(
        "shard ids in Delta's log after a month",
        shards * DAYS,
        OPENED_IDS,
        f"{larger}, and a new table (MOODLAKE_RESULTS_URI) every month",
    )
    rows = min(load.images / load.runs, MAX_SHARDS * load.shard_size)
    yield ExceededLimit(
        "seconds to publish a run",
        rates.publish + rows * rates.row,
        every / 4,
        "more runs a day, with fewer images each",
    )


def _of_size(load: Load, rates: Rates) -> Iterator[ExceededLimit]:
    """Yield the limits of the templates of infra/aws, in one of their sizes."""
    kind, size = "large" if load.large else "small", template("run")["Mappings"]
    more = "more servers (Most and Slots in infra/aws/run/scaling.yaml) and Airflow workers"
    remedy = more if load.large else f"the large size; then {more}"
    yield ExceededLimit(
        "server vCPUs, all day",
        load.images * rates.image / _DAY / load.busy,
        size["Scaling"][kind]["Most"] * cores_per_server(load),
        remedy,
    )
    task = rates.airflow_task + rates.shard + load.shard_size * rates.image
    yield ExceededLimit(
        "scoring tasks at once, all day",
        load.images / load.shard_size * task / _DAY / load.busy,
        int(size["Scaling"][kind]["Slots"]),
        remedy,
    )
