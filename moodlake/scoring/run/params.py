"""Parameters of scoring and maintenance runs, with their defaults, bounds and descriptions.

DAG files and the command line build their options from this module, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodlake.scoring.defaults import DEFAULT_BATCH_SIZE, DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE
from moodlake.scoring.options import check, given, option
from moodlake.serving.limits import MAX_IMAGES


@dataclass(frozen=True)
class RunParams:
    """Parameters of a run.

    Raises:
        ValueError: a value is out of range; the message names the parameter.
    """

    bucket: str = option("Bucket", "Bucket with the images. Default: the configured images bucket.")
    prefix: str = option(
        "Key prefix", "Score only objects whose key starts with this prefix.", default=""
    )
    pattern: str = option(
        "Key pattern",
        "Glob for keys, such as *.jpg; * also matches slashes.",
        default="",
    )
    inventory: str = option(
        "S3 Inventory",
        "URI of an S3 Inventory's manifest.json to read instead of listing the bucket.",
        default="",
    )
    batch_size: int = option(
        "Images per request",
        "Images sent to the model server in one request.",
        default=DEFAULT_BATCH_SIZE,
        minimum=1,
        maximum=MAX_IMAGES,
    )
    shard_size: int = option(
        "Images per task",
        "Images scored by one Airflow task. Images over 1 MiB count in proportion to their size.",
        default=DEFAULT_SHARD_SIZE,
        minimum=1,
        maximum=MAX_SHARD_SIZE,
    )
    faces: str | None = option(
        "Faces to score",
        "none: the whole image. largest: the largest face. all: every face. "
        "Default: the model's own mode.",
        default=None,
        choices=("none", "largest", "all"),
    )
    max_broken: float | None = option(
        "Maximum share of broken images",
        "Quarantine a shard in which more than this share of the images is broken; above 0, at "
        "most 1. Default: gate.max_broken of the scoring policy.",
        default=None,
        minimum=0,
        maximum=1,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.max_broken == 0:
            raise ValueError("max_broken is 0; it must be greater than 0")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunParams:
        """Take the parameters of a run from a DAG's, which may include those of other tasks.

        None and "" stand for the default.
        """
        return cls(**given(cls, values))


@dataclass(frozen=True)
class UpkeepParams:
    """Parameters of a maintenance run.

    Readers that opened an older version of a table, and time travel, need the files of that
    version for `retention_hours`.

    Raises:
        ValueError: a value is out of range; the message names the parameter.
    """

    target_mb: int = option(
        "Size of compacted files, MB",
        "Merge small files of the tables into files of about this size.",
        default=128,
        minimum=1,
    )
    retention_hours: int = option(
        "Hours to keep old files",
        "Delete files that the current version of a table has not used for this many hours.",
        default=168,
        # A task opens the tables anew in each attempt, which lasts half an hour at most.
        minimum=2,
    )
    work_days: int = option(
        "Days to keep abandoned runs",
        "Delete the plan and staged rows of runs that nothing has touched for this many days.",
        default=7,
        minimum=1,
    )
    refused_days: int | None = option(
        "Days to keep quarantined rows",
        "Delete rows that failed the quality gate after this many days. Empty: keep them.",
        default=30,
        minimum=1,
    )
    reports_days: int | None = option(
        "Days to keep reports",
        "Delete reports after this many days. Empty: keep them.",
        default=None,
        minimum=1,
    )

    def __post_init__(self) -> None:
        check(self)
