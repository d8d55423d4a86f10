"""The measured durations of work."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 300.0
"""From the request of a server to its first answer: alarm, task, image download, model, two health
checks of the load balancer. An estimate."""
IDLE_SECONDS = 900.0
"""Time without work after which infra/aws/run/scaling.yaml stops the servers."""
MEASURED = Path(__file__).parent / "measured.toml"


@dataclass(frozen=True)
class Rates:
    """Durations in seconds: core time, or wall time where noted.

    Attributes:
        image: model server, per image: decoding, faces, network.
        task_image: scoring task (and S3, if on the same machine), per image.
        shard: scoring task, start and end.
        airflow_task: Airflow, per task.
        scheduler_task: the scheduler's part of airflow_task; tasks are started one by one.
        airflow_run: Airflow, per run beside its tasks (wall time).
        plan: planning, fixed part (wall time).
        key: planning, per listed key (wall time).
        publish: audit and commit of a run, fixed part (wall time).
        row: audit and commit, per row (wall time).
    """

    image: float
    task_image: float
    shard: float
    airflow_task: float
    scheduler_task: float
    airflow_run: float
    plan: float
    key: float
    publish: float
    row: float

    @classmethod
    def measured(cls, file: Path = MEASURED) -> Rates:
        """Load the rates of the last recorded measurement."""
        return cls(**tomllib.loads(file.read_text("utf-8"))["rates"])


@dataclass(frozen=True)
class Measured:
    """A measured run of Airflow, on the machine of the rates.

    Attributes:
        images: images in the run.
        shard_size: images per shard.
        seconds: wall time.
    """

    images: int
    shard_size: int
    seconds: float

    @classmethod
    def runs(cls, file: Path = MEASURED) -> tuple[int, list[Measured]]:
        """Load the machine's number of cores, and the runs."""
        found = tomllib.loads(file.read_text("utf-8"))
        return found["cores"], [cls(**run) for run in found["runs"]]
