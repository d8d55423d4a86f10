"""The size and the cost of an installation on AWS, computed from daily averages."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.aws.template import template
from infra.sizing.rates import IDLE_SECONDS, START_SECONDS, Rates
from moodlake.scoring.cloudwatch import UNITS
from moodlake.scoring.pipeline import MAX_SHARDS

PRICES = Path(__file__).parent / "prices.toml"
HOURS = 730.5
"""Hours in a month."""
DAYS = HOURS / 24
"""Days in a month."""
_DAY = 86_400
GB_PER_WORKER = 2.0
"""Memory per server worker; the least that Fargate offers with a vCPU."""
_LIST_KEYS = 1_000
_MESSAGES = 10
"""Messages in an answer of SQS."""


def load_prices(file: Path = PRICES) -> dict[str, Any]:
    """Load the prices of AWS in US dollars; `dated` is their month."""
    return tomllib.loads(file.read_text("utf-8"))


@dataclass(frozen=True)
class Load:
    """The load of an installation.

    Attributes:
        images: images a day.
        shard_size: images per task.
        runs: scheduled runs a day.
        row_bytes: bytes per row of the table.
        image_bytes: bytes per image in S3; 0 if the images are stored anyway.
        sent_bytes: bytes per image through the load balancer; a JPEG of 400 x 300 has 40 kB.
        listed: keys that a run lists; None for the images of a month.
        inventory: runs plan from a daily S3 Inventory instead of a listing.
        notified: S3 notifies of each image, which is scored on arrival.
        busy: share of a running server's time that it works, 0 to 1; 0.46 in simulation.
        large: managed Airflow and servers of the large size.
        spot: additional servers on Fargate Spot.
    """

    images: int
    shard_size: int
    runs: int = 24
    row_bytes: int = 171
    image_bytes: int = 0
    sent_bytes: int = 40_000
    listed: int | None = None
    inventory: bool = False
    notified: bool = True
    busy: float = 0.5
    large: bool = False
    spot: bool = False

    @property
    def keys(self) -> int:
        """The keys that a run lists."""
        return int(self.images * DAYS) if self.listed is None else self.listed


@dataclass(frozen=True)
class Size:
    """The resources and the cost of a load.

    Attributes:
        shards: shards a day.
        runs: runs a day; more than scheduled if those cannot take all images.
        cores: busy server vCPUs, averaged over the day.
        core_hours: billed vCPU hours of servers a day, busy or idle.
        task_hours: hours of scoring tasks a day.
        requests: requests to S3 and SQS a day, by kind.
        row_gigabytes: growth of the table a day, in GB.
        dollars: cost a month by item; storage is of one month's images.
    """

    shards: int
    runs: int
    cores: float
    core_hours: float
    task_hours: float
    requests: dict[str, float]
    row_gigabytes: float
    dollars: dict[str, float]

    @property
    def month(self) -> float:
        """The total cost in dollars a month."""
        return sum(self.dollars.values())


def size(load: Load, rates: Rates, prices: dict[str, Any]) -> Size:
    """Estimate the resources and the cost of a load.

    Assumes that a vCPU of AWS is as fast as a core of the machine that the rates were measured on.
    Excludes logs, training, and traffic through NAT gateways, between zones and out of AWS.

    Raises:
        ValueError: `images` is below 1, or `busy` is not in (0, 1].
    """
    if load.images < 1 or not 0 < load.busy <= 1:
        raise ValueError(f"{load.images} images a day, servers busy for {load.busy:g} of the time")
    shards = math.ceil(load.images / load.shard_size)
    runs = max(load.runs, math.ceil(shards / MAX_SHARDS))
    seconds = load.images * rates.image
    task = rates.airflow_task + rates.shard + load.shard_size * rates.image
    listings = 0 if load.inventory else runs * load.keys / _LIST_KEYS
    requests = {
        "GET": float(load.images),
        "LIST and PUT": listings + 3 * shards + 5 * runs,
        "SQS": load.images * (1 + 2 / _MESSAGES) if load.notified else 0.0,
    }
    estimate = Size(
        shards=shards,
        runs=runs,
        cores=seconds / _DAY,
        core_hours=max(seconds / 3600 / load.busy, _least_core_hours(load, rates, runs)),
        task_hours=shards * task / 3600,
        requests=requests,
        row_gigabytes=load.images * load.row_bytes / 1e9,
        dollars={},
    )
    return replace(estimate, dollars=_dollars(load, estimate, prices))


def _least_core_hours(load: Load, rates: Rates, runs: int) -> float:
    """Return the vCPU hours a day of the first server, busy or idle.

    Every run starts a server, even if nothing is new, and so does an image that is scored on
    arrival; the server stops after IDLE_SECONDS without work. With independent arrivals, at least
    one falls into any IDLE_SECONDS with probability 1 - exp(-IDLE_SECONDS * images / day).
    """
    listing = rates.plan + (0 if load.inventory else load.keys * rates.key)
    # The server stops during a long listing, and starts again.
    run = START_SECONDS + min(listing, START_SECONDS + IDLE_SECONDS) + IDLE_SECONDS
    asleep = max(0.0, 1 - runs * run / _DAY)
    if load.notified:
        asleep *= math.exp(-IDLE_SECONDS * load.images / _DAY)
    return 24 * (1 - asleep) * cores_per_server(load)


def cores_per_server(load: Load) -> int:
    """Return the vCPUs of a server in the installation's size."""
    kind = "large" if load.large else "small"
    return int(template("run")["Mappings"]["Server"][kind]["Cpu"]) // 1024


def _dollars(load: Load, estimate: Size, prices: dict[str, Any]) -> dict[str, float]:
    fargate, airflow, network = prices["fargate"], prices["airflow"], prices["network"]
    s3, other = prices["s3"], prices["other"]
    core = fargate["vcpu_hour"] + GB_PER_WORKER * fargate["gb_hour"]
    # The first server never runs on Spot.
    share = fargate["spot_share"] if load.spot else 1.0
    first = min(estimate.core_hours, 24.0 * cores_per_server(load))
    kind = "large" if load.large else "small"
    # A task mostly waits for the server. The environment includes the first Airflow worker.
    at_once = int(template("run")["Mappings"]["Airflow"][kind]["Tasks"].split(",")[0])
    workers = max(0.0, estimate.task_hours / 24 / at_once - 1)
    gateways = 2 if load.large else 1
    stored = load.images * DAYS * load.image_bytes / 1e9 + estimate.row_gigabytes * DAYS
    return {
        "servers": DAYS * (first + (estimate.core_hours - first) * share) * core,
        "Airflow": HOURS
        * (airflow["environment_hour"][kind] + workers * airflow["worker_hour"][kind]),
        "network": HOURS
        * (gateways * (network["nat_hour"] + network["address_hour"]) + network["balancer_hour"])
        + DAYS * load.images * load.sent_bytes / 1e9 * network["balancer_unit_hour"],
        "requests": DAYS
        * (
            estimate.requests["GET"] / 1e3 * s3["get_thousand"]
            + estimate.requests["LIST and PUT"] / 1e3 * s3["list_thousand"]
            + estimate.requests["SQS"] / 1e6 * prices["sqs"]["million"]
            + load.inventory * load.keys / 1e6 * s3["inventory_million"]
        ),
        "storage": stored * s3["gb_month"],
        "alarms, key, secret": _alarm_metrics() * other["alarm_month"]
        + len(UNITS) * other["metric_month"]
        + other["key_month"]
        + other["secret_month"],
    }


def _alarm_metrics() -> int:
    """Return the number of metrics that alarms read, by which alarms are billed."""
    alarms = [
        each["Properties"]
        for each in template("run")["Resources"].values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    return sum(
        1 if "Metrics" not in alarm else sum("MetricStat" in each for each in alarm["Metrics"])
        for alarm in alarms
    )
