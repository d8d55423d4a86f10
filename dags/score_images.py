"""Score what is new in the bucket: plan shards, score them through TorchServe, publish the rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task


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
        "batch_size": Param(16, type="integer", minimum=1, maximum=256, title="Images per request"),
        "shard_size": Param(256, type="integer", minimum=1, title="Images per task"),
        "faces": Param(
            "largest", enum=["none", "largest", "all"], title="What of an image to read"
        ),
    },
    doc_md=__doc__,
)
def score_images() -> None:
    @task(multiple_outputs=True)
    def plan_shards() -> dict[str, Any]:
        from moodlake.scoring.pipeline import RunParams, plan_run
        from moodlake.settings import Settings

        context = get_current_context()
        settings = Settings.from_environment()
        params = dict(context["params"])
        params["bucket"] = params["bucket"] or settings.images_bucket
        return plan_run(context["run_id"], RunParams(**params), settings).to_dict()

    # One worker of TorchServe a slot: more tasks would only queue there.
    @task(pool="torchserve", map_index_template="{{ task.op_kwargs['shard_id'][:8] }}")
    def score_shard(run: dict[str, Any], shard_id: str) -> int:
        from moodlake.scoring import pipeline
        from moodlake.settings import Settings

        return pipeline.score_shard(
            pipeline.Run.from_dict(run), shard_id, Settings.from_environment()
        )

    # Also after a shard has failed: what was scored is published, and then this task fails.
    @task(trigger_rule="all_done")
    def publish(run: dict[str, Any] | None) -> dict[str, Any]:
        from moodlake.scoring import pipeline
        from moodlake.settings import Settings

        if run is None:
            raise RuntimeError("nothing was planned: see the log of plan_shards")
        record = pipeline.publish(pipeline.Run.from_dict(run), Settings.from_environment())
        return {name: record[name] for name in ("objects", "scored", "rejected", "reasons")}

    run = plan_shards()
    score_shard.partial(run=run).expand(shard_id=run["shard_ids"]) >> publish(run)


score_images()
