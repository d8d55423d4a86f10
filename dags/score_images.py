"""Score what is new in the bucket: plan shards, score them through TorchServe, publish the rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from moodlake.serving.limits import MAX_IMAGES


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Runs of one bucket would plan the same objects; one at a time they score each once.
    max_active_runs=1,
    tags=["moodlake", "scoring"],
    default_args={
        "owner": "moodlake",
        "retries": 2,
        "retry_delay": timedelta(seconds=15),
        "execution_timeout": timedelta(minutes=30),
    },
    params={
        "bucket": Param(
            None, type=["null", "string"], description="Empty: the installation's own bucket"
        ),
        "prefix": Param("", type="string", description="Only keys that start with this"),
        "batch_size": Param(16, type="integer", minimum=1, maximum=MAX_IMAGES, title="Per request"),
        "shard_size": Param(256, type="integer", minimum=1, title="Images per task"),
        "faces": Param(None, enum=[None, "none", "largest", "all"], title="What of it to read"),
    },
    doc_md=__doc__,
)
def score_images() -> None:
    @task
    def plan_shards() -> list[str]:
        from moodlake.scoring import pipeline
        from moodlake.settings import Settings

        context = get_current_context()
        settings = Settings.from_environment()
        params = dict(context["params"])
        params["bucket"] = params["bucket"] or settings.images_bucket
        try:
            run_params = pipeline.RunParams(**params)
            return pipeline.plan_run(context["run_id"], run_params, settings)
        except pipeline.SetupError as error:  # no retry mends a missing bucket
            raise AirflowFailException(str(error)) from error

    # A slot for each worker of TorchServe: more tasks would only queue there.
    @task(pool="torchserve")
    def score(shard_id: str) -> int:
        from moodlake.scoring.pipeline import score_shard
        from moodlake.settings import Settings

        run_id = get_current_context()["run_id"]
        return score_shard(run_id, shard_id, Settings.from_environment())

    # Also after a shard has failed: what was scored is published, and then this task fails.
    @task(trigger_rule="all_done")
    def publish() -> dict[str, Any]:
        from moodlake.scoring import pipeline
        from moodlake.settings import Settings

        run_id = get_current_context()["run_id"]
        try:
            record = pipeline.publish(run_id, Settings.from_environment())
        except pipeline.SetupError as error:
            raise AirflowFailException(str(error)) from error
        return {name: record[name] for name in ("objects", "scored", "rejected", "reasons")}

    score.expand(shard_id=plan_shards()) >> publish()


score_images()
