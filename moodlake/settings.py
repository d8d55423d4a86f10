"""Where the parts of one installation find each other: one place for addresses and names.

Values come from environment variables, so that a laptop, Airflow's workers and a cluster differ
in configuration only. S3 itself is configured with the standard AWS variables
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moodlake.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
RELEASED_ARCHIVE = PROJECT_ROOT / "model_store" / "emotions.mar"
CANDIDATE_ARCHIVE = PROJECT_ROOT / "build" / "emotions.mar"
"""What `dvc repro` builds."""
DATA_OVERVIEW = PROJECT_ROOT / "data" / "overview"
"""What the DVC stage of that name writes."""
STATE_VARIABLE = "MOODLAKE_STATE"
"""For the page, in place of addresses: the folder of a local stack, to be found when it runs."""
MODEL_NAME = "emotions"
"""The name that TorchServe serves the model under: POST /predictions/emotions."""


class SettingsError(UserError):
    """An environment variable that cannot be used; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Addresses of one installation.

    Attributes:
        images_bucket: bucket that the scheduled DAG scores.
        results_uri: folder or s3:// prefix that holds the Delta tables and the work in hand.
        server_url: the model server's address.
        server_keys: its key_file.json, or the ARN of a secret; None where no token is wanted.
        arrivals_queue: URL of an SQS queue that S3 tells of what is put into `images_bucket`;
            None if there is none.
        dead_letters: URL of an SQS queue for what cannot be used of these notifications; None if
            there is none.
        airflow_url: Airflow's page, for links to it; None if there is none.
        show_images: the page may read images out of buckets and show them.
        data_overview: the folder with what the page tells of the training data.
        server_wait: seconds that a run waits for a model server that is being started.
        metrics: namespace of CloudWatch that runs write metrics to; None for none.
    """

    images_bucket: str = "moodlake-images"
    results_uri: str = "s3://moodlake-results"
    server_url: str = "http://127.0.0.1:8080"
    server_keys: Path | str | None = None
    arrivals_queue: str | None = None
    dead_letters: str | None = None
    airflow_url: str | None = None
    show_images: bool = False
    data_overview: Path = DATA_OVERVIEW
    server_wait: float = 0
    metrics: str | None = None

    @property
    def results_table(self) -> str:
        """The Delta table with one row per object version and model."""
        return f"{self.results_uri.rstrip('/')}/results"

    @property
    def runs_table(self) -> str:
        """The Delta table with one row per run."""
        return f"{self.results_uri.rstrip('/')}/runs"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read MOODLAKE_IMAGES_BUCKET, _RESULTS_URI, _SERVER_URL, _SERVER_KEYS,
        _ARRIVALS_QUEUE, _DEAD_LETTERS, _AIRFLOW_URL, _SHOW_IMAGES ("true"), _DATA_OVERVIEW,
        _SERVER_WAIT and _METRICS.

        Raises:
            SettingsError: the seconds to wait are no number of seconds.
        """
        return cls(
            images_bucket=environ.get("MOODLAKE_IMAGES_BUCKET", cls.images_bucket),
            results_uri=environ.get("MOODLAKE_RESULTS_URI", cls.results_uri),
            server_url=environ.get("MOODLAKE_SERVER_URL", cls.server_url),
            server_keys=_keys(environ.get("MOODLAKE_SERVER_KEYS")),
            arrivals_queue=environ.get("MOODLAKE_ARRIVALS_QUEUE") or None,
            dead_letters=environ.get("MOODLAKE_DEAD_LETTERS") or None,
            airflow_url=environ.get("MOODLAKE_AIRFLOW_URL") or None,
            show_images=environ.get("MOODLAKE_SHOW_IMAGES") == "true",
            data_overview=Path(environ.get("MOODLAKE_DATA_OVERVIEW", DATA_OVERVIEW)),
            server_wait=_seconds("MOODLAKE_SERVER_WAIT", environ),
            metrics=environ.get("MOODLAKE_METRICS") or None,
        )

    def to_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        environment = {
            "MOODLAKE_IMAGES_BUCKET": self.images_bucket,
            "MOODLAKE_RESULTS_URI": self.results_uri,
            "MOODLAKE_SERVER_URL": self.server_url,
        }
        if self.server_keys:
            environment["MOODLAKE_SERVER_KEYS"] = str(self.server_keys)
        if self.arrivals_queue:
            environment["MOODLAKE_ARRIVALS_QUEUE"] = self.arrivals_queue
        if self.dead_letters:
            environment["MOODLAKE_DEAD_LETTERS"] = self.dead_letters
        if self.airflow_url:
            environment["MOODLAKE_AIRFLOW_URL"] = self.airflow_url
        if self.show_images:
            environment["MOODLAKE_SHOW_IMAGES"] = "true"
        if self.data_overview != DATA_OVERVIEW:
            environment["MOODLAKE_DATA_OVERVIEW"] = str(self.data_overview)
        if self.server_wait:
            environment["MOODLAKE_SERVER_WAIT"] = f"{self.server_wait:g}"
        if self.metrics:
            environment["MOODLAKE_METRICS"] = self.metrics
        return environment


def _seconds(name: str, environ: Mapping[str, str]) -> float:
    text = environ.get(name) or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{name} is {text!r}; it must be a number of seconds, such as 600")
    return seconds


def _keys(text: str | None) -> Path | str | None:
    """As a person writes it: a path, or an ARN."""
    if not text:
        return None
    return text if text.startswith("arn:") else Path(text)
