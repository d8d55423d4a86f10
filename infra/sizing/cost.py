"""The size and the price of an installation on AWS, by arithmetic on averages."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.aws.template import template
from infra.sizing.rates import IDLE_SECONDS, START_SECONDS, Rates
from moodlake.scoring.cloudwatch import UNITS
from moodlake.scoring.pipeline import MAX_SHARDS

PRICES = Path(__file__).parent / "prices.toml"
HOURS = 730.5
"""Of a month."""
DAYS = HOURS / 24
_DAY = 86_400
GB_A_WORKER = 2.0
"""Of a server's memory; Fargate sells no less with a core."""
_LIST_KEYS = 1_000
_MESSAGES = 10
"""That SQS hands out at once."""


def load_prices(file: Path = PRICES) -> dict[str, Any]:
    """What AWS takes, in US dollars; `dated` says when."""
    return tomllib.loads(file.read_text("utf-8"))


@dataclass(frozen=True)
class Load:
    """What an installation has to do.

    Attributes:
        images: a day.
        shard_size: images in a task.
        runs: scheduled ones a day.
        row_bytes: of a row in the table.
        image_bytes: of an image; 0 where the images are not stored for this.
        sent_bytes: of an image, as the load balancer hands it on: 40 kB are a JPEG of 400 x 300.
        listed: keys that a run lists; None for those of a month.
        inventory: runs plan from an S3 Inventory, a new one each day, in place of a listing.
        notified: S3 tells of each image, which is then scored as it comes.
        busy: share of the servers' time that they work while they are there; simulated: 0.46.
        large: managed Airflow and servers of the large size.
        spot: servers on Fargate Spot.
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
        """That a run lists."""
        return int(self.images * DAYS) if self.listed is None else self.listed


@dataclass(frozen=True)
class Size:
    """What it takes.

    Attributes:
        shards: a day.
        runs: a day; more than were scheduled where these cannot take it all.
        cores: of servers, at work all day on average.
        core_hours: of servers that are paid for, a day; at work or not.
        task_hours: of scoring tasks, a day.
        requests: of S3 and SQS, a day, by kind.
        row_gigabytes: that the table grows by in a day.
        dollars: a month, by what they are for; the images' storage is of one month's images.
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
        """Dollars of a month."""
        return sum(self.dollars.values())


def size(load: Load, rates: Rates, prices: dict[str, Any]) -> Size:
    """What a load takes, and what it costs.

    A core of AWS is taken for one of the machine that the rates were measured on. Not in it: logs,
    what goes through NAT gateways (packages, logs, queues), from one zone to another or out of AWS,
    training.

    Raises:
        ValueError: there are no images, or no share of the time to work in.
    """
    if load.images < 1 or not 0 < load.busy <= 1:
        raise ValueError(f"{load.images} images a day at {load.busy:g} of the servers' time")
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
    found = Size(
        shards=shards,
        runs=runs,
        cores=seconds / _DAY,
        core_hours=max(seconds / 3600 / load.busy, _least_core_hours(load, rates, runs)),
        task_hours=shards * task / 3600,
        requests=requests,
        row_gigabytes=load.images * load.row_bytes / 1e9,
        dollars={},
    )
    return Size(**{**vars(found), "dollars": _dollars(load, found, prices)})


def _least_core_hours(load: Load, rates: Rates, runs: int) -> float:
    """Of the one server that is there, at work or not: it outlasts what it was started for.

    A run starts one, also if nothing is new. What arrives in between does, too, where it is scored
    as it comes: at times that do not depend on each other, within any IDLE_SECONDS something does
    with probability 1 - exp(-IDLE_SECONDS * images / day).
    """
    listing = rates.plan + (0 if load.inventory else load.keys * rates.key)
    # It stops during a long listing, and is started again.
    run = START_SECONDS + min(listing, START_SECONDS + IDLE_SECONDS) + IDLE_SECONDS
    asleep = max(0.0, 1 - runs * run / _DAY)
    if load.notified:
        asleep *= math.exp(-IDLE_SECONDS * load.images / _DAY)
    return 24 * (1 - asleep) * cores_a_server(load)


def cores_a_server(load: Load) -> int:
    """Of the installation's size."""
    kind = "large" if load.large else "small"
    return int(template("run")["Mappings"]["Server"][kind]["Cpu"]) // 1024


def _dollars(load: Load, found: Size, prices: dict[str, Any]) -> dict[str, float]:
    fargate, airflow, network = prices["fargate"], prices["airflow"], prices["network"]
    s3, other = prices["s3"], prices["other"]
    core = fargate["vcpu_hour"] + GB_A_WORKER * fargate["gb_hour"]
    # The first server is never on Spot.
    share = fargate["spot_share"] if load.spot else 1.0
    first = min(found.core_hours, 24.0 * cores_a_server(load))
    kind = "large" if load.large else "small"
    # A task waits for the server nearly all of its time; the environment brings the first worker.
    at_once = int(template("run")["Mappings"]["Airflow"][kind]["Tasks"].split(",")[0])
    workers = max(0.0, found.task_hours / 24 / at_once - 1)
    gateways = 2 if load.large else 1
    stored = load.images * DAYS * load.image_bytes / 1e9 + found.row_gigabytes * DAYS
    return {
        "servers": DAYS * (first + (found.core_hours - first) * share) * core,
        "Airflow": HOURS
        * (airflow["environment_hour"][kind] + workers * airflow["worker_hour"][kind]),
        "network": HOURS
        * (gateways * (network["nat_hour"] + network["address_hour"]) + network["balancer_hour"])
        + DAYS * load.images * load.sent_bytes / 1e9 * network["balancer_unit_hour"],
        "requests": DAYS
        * (
            found.requests["GET"] / 1e3 * s3["get_thousand"]
            + found.requests["LIST and PUT"] / 1e3 * s3["list_thousand"]
            + found.requests["SQS"] / 1e6 * prices["sqs"]["million"]
            + load.inventory * load.keys / 1e6 * s3["inventory_million"]
        ),
        "storage": stored * s3["gb_month"],
        "alarms, key, secret": _alarm_metrics() * other["alarm_month"]
        + len(UNITS) * other["metric_month"]
        + other["key_month"]
        + other["secret_month"],
    }


def _alarm_metrics() -> int:
    """What alarms are paid by: the metrics that they read."""
    alarms = [
        each["Properties"]
        for each in template("run")["Resources"].values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    return sum(
        1 if "Metrics" not in alarm else sum("MetricStat" in each for each in alarm["Metrics"])
        for alarm in alarms
    )
