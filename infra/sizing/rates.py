"""What work takes, as it was measured."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 300.0
"""Until a server that is asked for answers: the alarm, the task, its image, the model, two looks of
the load balancer. A guess."""
IDLE_SECONDS = 900.0
"""Without work, after which the rules of infra/aws/run/scaling.yaml stop the servers."""
MEASURED = Path(__file__).parent / "measured.toml"


@dataclass(frozen=True)
class Rates:
    """Seconds of one core at work, if nothing else is said.

    Attributes:
        image: of the model server, for an image: decoding, faces, network.
        task_image: of a scoring task and, where it runs on the same machine, of S3, for an image.
        shard: of a scoring task, for its beginning and end.
        airflow_task: of Airflow, for each task that it starts.
        scheduler_task: what of that only the scheduler does, one task after the other.
        airflow_run: of the clock, for a run of Airflow beside its tasks' work.
        plan: of the clock, for a plan, however small.
        key: of the clock, for each key of a listing that is planned over.
        publish: of the clock, for audit and commit of a run, however small.
        row: of the clock, for each row of it.
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
        """Those of the last measurement that was written down."""
        return cls(**tomllib.loads(file.read_text("utf-8"))["rates"])


@dataclass(frozen=True)
class Measured:
    """A run of Airflow on the machine of the rates.

    Attributes:
        images: of the run.
        shard_size: images in a shard.
        seconds: of the clock.
    """

    images: int
    shard_size: int
    seconds: float

    @classmethod
    def runs(cls, file: Path = MEASURED) -> tuple[int, list[Measured]]:
        """The machine's cores, and the runs."""
        found = tomllib.loads(file.read_text("utf-8"))
        return found["cores"], [cls(**run) for run in found["runs"]]
