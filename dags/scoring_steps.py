"""What the DAGs that score share: their parameters, and the tasks plan_shards, score, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Param, get_current_context, task

from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE

DEFAULTS = {
    "owner": "moodlake",
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "execution_timeout": timedelta(minutes=30),
}
PARAMS = {
    "bucket": Param(None, type=["null", "string"], description="Empty: the installation's own"),
    "prefix": Param("", type="string", description="Only keys that start with this"),
    "pattern": Param("", type="string", description="Only keys like this: *.jpg"),
    "shard_size": Param(
        DEFAULT_SHARD_SIZE, type="integer", minimum=1, maximum=MAX_SHARD_SIZE, title="In a task"
    ),
    "faces": Param(None, enum=[None, "none", "largest", "all"], title="What of it to read"),
    "max_broken": Param(None, type=["null", "number"], maximum=1, title="Broken share to take"),
}


def installed() -> tuple[Any, Any]:
    """The steps of a run and its settings; imported by tasks only, to keep DAG files quick."""
    from moodlake.scoring import pipeline
    from moodlake.settings import Settings

    return pipeline, Settings.from_environment()


@contextmanager
def no_retry() -> Iterator[None]:
    """What no retry mends, such as a missing bucket, fails a task at once."""
    from moodlake.scoring.sources.objects import SetupError

    try:
        yield
    except (SetupError, ValueError) as error:
        raise AirflowFailException(str(error)) from error


# Ten million objects are ten thousand requests for a listing, one after the other.
@task(execution_timeout=timedelta(hours=3))
def plan_shards() -> list[str]:
    pipeline, settings = installed()
    context = get_current_context()
    run = context["dag_run"]
    # Airflow 3.0 does not tell who it was.
    who = getattr(run, "triggering_user_name", None) or run.run_type.value
    with no_retry():
        return pipeline.plan_asked(context["run_id"], context["params"], settings, who)


# A slot for each worker of TorchServe: more tasks would only queue there.
@task(pool="torchserve")
def score(shard_id: str) -> int:
    pipeline, settings = installed()
    return pipeline.score_shard(get_current_context()["run_id"], shard_id, settings)


# Also after a shard has failed: what was scored is published, and then this task fails.
@task(trigger_rule="all_done")
def publish() -> dict[str, Any]:
    pipeline, settings = installed()
    with no_retry():
        record = pipeline.publish(get_current_context()["run_id"], settings)
    told = ("objects", "scored", "rejected", "reasons", "model_digest")
    # What one run does not take is left to those that follow.
    waiting = record["waiting"] - record["objects"]
    return {name: record[name] for name in told} | {"still_waiting": waiting}
