"""Score new images in the bucket: plan shards, score them through TorchServe, publish the rows."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import dag
from scoring_steps import DEFAULTS, PARAMS, plan_shards, publish, score


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Concurrent runs of a bucket would plan the same objects.
    max_active_runs=1,
    tags=["moodlake", "scoring"],
    default_args=DEFAULTS,
    params=PARAMS,
    doc_md=__doc__,
)
def score_images() -> None:
    score.expand(shard_id=plan_shards()) >> publish()


score_images()
