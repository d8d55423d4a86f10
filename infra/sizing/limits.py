"""Where a load would bend an installation, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.aws.template import template
from infra.sizing.cost import DAYS, Load, cores_a_server
from infra.sizing.rates import Rates
from moodlake.scoring.defaults import MAX_SHARD_SIZE
from moodlake.scoring.pipeline import MAX_SHARDS

_DAY = 86_400
_PEAK = 2.0
"""Of a day's busiest minutes, against its mean; see `simulation.daily`."""
PREFIX_GETS = 5_500
"""A second, that S3 answers under one prefix (AWS, "Optimizing Amazon S3 performance")."""
MESSAGES = 100
"""That Airflow's watcher takes from the queue in one look; see dags/score_on_arrival.py."""
LOOK_SECONDS = 2.0
OPENED_IDS = 1_000_000
"""Shard ids in Delta's log: to read them takes 0.8 s and 320 MB each time the table is opened
(250,000 of them 0.2 s and 80 MB, docs/measurements.md)."""


@dataclass(frozen=True)
class ExceededLimit:
    """Something that a load asks more of than it gives.

    Attributes:
        what: in words.
        asked: by the load.
        most: that it gives; in the same unit.
        remedy: what to do.
    """

    what: str
    asked: float
    most: float
    remedy: str


def exceeded_limits(load: Load, rates: Rates) -> list[ExceededLimit]:
    """What a load exceeded_limits, worst first."""
    found = [bend for bend in _limits(load, rates) if bend.asked > bend.most]
    return sorted(found, key=lambda bend: bend.most / bend.asked)


def _limits(load: Load, rates: Rates) -> Iterator[ExceededLimit]:
    peak = _PEAK * load.images / _DAY
    every = _DAY / load.runs
    shards = load.images / load.shard_size
    largest = load.shard_size >= MAX_SHARD_SIZE
    larger = "more installations" if largest else f"shards of {MAX_SHARD_SIZE:,}"
    yield ExceededLimit(
        "images that the scheduled runs take in a day",
        load.images,
        load.runs * MAX_SHARDS * load.shard_size,
        f"{larger}, and more runs a day (the schedule in dags/score_images.py)",
    )
    if not load.inventory:
        yield ExceededLimit(
            "seconds to list the bucket, of those between two runs",
            load.keys * rates.key,
            every / 2,
            "let keys begin with their time, and give each hour's prefix runs of its own (the "
            "parameter prefix); a backlog: plan from an S3 Inventory (the parameter inventory)",
        )
    yield ExceededLimit(
        "seconds of a day that the scheduler starts tasks",
        shards * rates.scheduler_task,
        _DAY / 2,
        f"{larger}; beyond these, installations of their own for parts of the images",
    )
    yield from _of_size(load, rates)
    yield ExceededLimit(
        "images a second under one prefix, at the peak",
        peak,
        PREFIX_GETS,
        "spread the keys over prefixes",
    )
    if load.notified:
        yield ExceededLimit(
            "notifications a second, at the peak",
            peak,
            MESSAGES / LOOK_SECONDS,
            "let the scheduled runs find what arrives, and no queue be told",
        )
    yield ExceededLimit(
        "shard ids in Delta's log after a month",
        shards * DAYS,
        OPENED_IDS,
        f"{larger}, and a new table (MOODLAKE_RESULTS_URI) for each month",
    )
    rows = min(load.images / load.runs, MAX_SHARDS * load.shard_size)
    yield ExceededLimit(
        "seconds to publish a run, of those between two runs",
        rates.publish + rows * rates.row,
        every / 4,
        "more runs a day, of fewer images each",
    )


def _of_size(load: Load, rates: Rates) -> Iterator[ExceededLimit]:
    """What the templates of infra/aws give in one of their sizes."""
    kind, size = "large" if load.large else "small", template("run")["Mappings"]
    bigger = "more servers (Most and Slots in infra/aws/run/scaling.yaml) and Airflow workers"
    remedy = bigger if load.large else f"the large size; then {bigger}"
    yield ExceededLimit(
        "cores of servers, all day long",
        load.images * rates.image / _DAY / load.busy,
        size["Scaling"][kind]["Most"] * cores_a_server(load),
        remedy,
    )
    task = rates.airflow_task + rates.shard + load.shard_size * rates.image
    yield ExceededLimit(
        "scoring tasks at once, all day long",
        load.images / load.shard_size * task / _DAY / load.busy,
        int(size["Scaling"][kind]["Slots"]),
        remedy,
    )
