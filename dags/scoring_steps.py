"""Parameters and tasks that the scoring DAGs share: plan_shards, score, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Param, get_current_context, task

from moodlake.scoring.options import options_of
from moodlake.scoring.run.params import RunParams

DEFAULTS = {
    "owner": "moodlake",
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "execution_timeout": timedelta(minutes=30),
}
PARAMS = {
    option.name: Param(option.default, **option.json_schema()) for option in options_of(RunParams)
}


def installed() -> tuple[Any, Any]:
    """Return the module of a run's steps, and its settings.

    Only tasks import these: DAG files are parsed often.
    """
    from moodlake.scoring import pipeline
    from moodlake.settings import Settings

    return pipeline, Settings.from_environment()


@contextmanager
def no_retry() -> Iterator[None]:
    """Fail without retrying on permanent errors, such as a missing bucket."""
    from moodlake.scoring.sources.objects import SetupError

    try:
        yield
    except (SetupError, ValueError) as error:
        raise AirflowFailException(str(error)) from error


# Listing ten million objects takes ten thousand requests, one after the other.
@task(execution_timeout=timedelta(hours=3))
def plan_shards() -> list[str]:
    pipeline, settings = installed()
    context = get_current_context()
    run = context["dag_run"]
    # Airflow 3.0 does not report the user.
    user = getattr(run, "triggering_user_name", None) or run.run_type.value
    with no_retry():
        return pipeline.plan_requested(context["run_id"], context["params"], settings, user)


# One slot for each TorchServe worker: more tasks would only queue there.
@task(pool="torchserve")
def score(shard_id: str) -> int:
    pipeline, settings = installed()
    return pipeline.score_shard(get_current_context()["run_id"], shard_id, settings)


# Runs after a failed shard too: it publishes the scored ones, and then fails.
@task(trigger_rule="all_done")
def publish() -> dict[str, Any]:
    pipeline, settings = installed()
    with no_retry():
        record = pipeline.publish(get_current_context()["run_id"], settings)
    columns = ("objects", "scored", "rejected", "reasons", "model_digest")
    # Later runs take the objects beyond the limit of one run.
    remaining = record["waiting"] - record["objects"]
    return {name: record[name] for name in columns} | {"still_waiting": remaining}
