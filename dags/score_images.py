"""Score what is new in the bucket: plan shards, score them through TorchServe, publish the rows."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Param, dag
from scoring_steps import DEFAULTS, PARAMS, plan_shards, publish, score

from moodlake.scoring.defaults import DEFAULT_BATCH_SIZE
from moodlake.serving.limits import MAX_IMAGES


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Runs of one bucket would plan the same objects; one at a time they score each once.
    max_active_runs=1,
    tags=["moodlake", "scoring"],
    default_args=DEFAULTS,
    params={
        **PARAMS,
        "inventory": Param("", type="string", description="An S3 Inventory's manifest.json"),
        "batch_size": Param(
            DEFAULT_BATCH_SIZE, type="integer", minimum=1, maximum=MAX_IMAGES, title="Per request"
        ),
    },
    doc_md=__doc__,
)
def score_images() -> None:
    score.expand(shard_id=plan_shards()) >> publish()


score_images()
