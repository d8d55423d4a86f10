"""Addresses and names by which the parts of one installation find each other.

Values come from environment variables, so that a laptop, Airflow's workers and a cluster differ
in configuration only. S3 itself is configured with the standard AWS variables
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from moodlake.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
RELEASED_ARCHIVE = PROJECT_ROOT / "model_store" / "emotions.mar"
CANDIDATE_ARCHIVE = PROJECT_ROOT / "build" / "emotions.mar"
"""The archive that `dvc repro` builds."""
DATA_OVERVIEW = PROJECT_ROOT / "data" / "overview"
"""The output folder of the DVC stage `overview`."""
STATE_VARIABLE = "MOODLAKE_STATE"
"""Names the state folder of a local stack, where the web app finds it in place of addresses."""
MODEL_NAME = "emotions"
"""The name that TorchServe serves the model under: POST /predictions/emotions."""


class SettingsError(UserError):
    """An environment variable has an invalid value; the message names both."""


def _path_or_arn(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and not value.startswith("arn:") else value


def _is_true(value: Any) -> Any:
    return value == "true" if isinstance(value, str) else value


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("it must be a number of seconds, such as 600")
    return seconds


class Settings(BaseSettings):
    """Addresses of one installation.

    `Settings(...)` reads no environment variables; `from_environment` does. The variable of a
    field is MOODLAKE_ and the field's name in capitals, such as MOODLAKE_SERVER_URL.

    Attributes:
        images_bucket: bucket that the scheduled DAG scores.
        results_uri: folder or s3:// prefix of the Delta tables and of the files of unfinished runs.
        server_url: the model server's address.
        server_keys: its key_file.json, or the ARN of a secret; None if it requires no token.
        arrivals_queue: URL of the SQS queue that receives S3's notifications of new objects in
            `images_bucket`; None if there is none.
        dead_letters: URL of the SQS queue for invalid notifications; None if there is none.
        airflow_url: address of Airflow's UI, for links to it; None if there is none.
        show_images: whether the web app may read images from buckets and show them.
        data_overview: folder with the overview of the training data that the web app shows.
        server_wait: seconds to wait for a model server that is starting.
        metrics: CloudWatch namespace that runs write metrics to; None to write none.
    """

    model_config = SettingsConfigDict(env_prefix="MOODLAKE_", frozen=True)

    images_bucket: str = "moodlake-images"
    results_uri: str = "s3://moodlake-results"
    server_url: str = "http://127.0.0.1:8080"
    server_keys: Annotated[Path | str | None, BeforeValidator(_path_or_arn)] = None
    arrivals_queue: str | None = None
    dead_letters: str | None = None
    airflow_url: str | None = None
    show_images: Annotated[bool, BeforeValidator(_is_true)] = False
    data_overview: Path = DATA_OVERVIEW
    server_wait: Annotated[float, BeforeValidator(_seconds)] = 0
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
    def variable(cls, field: str) -> str:
        """Return the name of the environment variable of a field."""
        return f"{cls.model_config['env_prefix']}{field}".upper()

    @classmethod
    def configured(cls, environ: Mapping[str, str] = os.environ) -> set[str]:
        """Return the fields whose environment variables are set and not empty."""
        return {field for field in cls.model_fields if environ.get(cls.variable(field))}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings from environment variables; an empty one counts as unset.

        `show_images` is on for the value "true" only.

        Raises:
            SettingsError: a variable has an invalid value.
        """
        source = EnvSettingsSource(cls)
        variables = map(cls.variable, cls.configured(environ))
        source.env_vars = {name.lower(): environ[name] for name in variables}
        try:
            return cls(**source())
        except ValidationError as error:
            first = error.errors()[0]
            reason = first.get("ctx", {}).get("error", first["msg"])
            name = cls.variable(str(first["loc"][0]))
            raise SettingsError(f"{name} is {first['input']!r}; {reason}") from error

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables that `from_environment` reads these settings from.

        The three addresses with a default are always among them, so that a child process does
        not read them from the environment that it inherits; others only if they differ.
        """
        return {
            self.variable(name): _as_text(value)
            for name, value in self
            if isinstance(default := type(self).model_fields[name].default, str) or value != default
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor's arguments only."""
        return (init_settings,)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
