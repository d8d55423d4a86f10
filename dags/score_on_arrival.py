"""Score images when they arrive in the bucket: S3 sends notifications to an SQS queue.

This DAG exists if MOODLAKE_ARRIVALS_QUEUE is set to the URL of the queue. Notifications may be
lost; the hourly `score_images` finds the images that they reported.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Asset, AssetWatcher, dag, get_current_context, task
from scoring_steps import DEFAULTS, installed, no_retry, publish, score

from moodlake.settings import Settings

QUEUE = Settings.from_environment().arrivals_queue
NAME = "moodlake-arrivals"


def watched_asset(queue: str) -> Asset:
    """Return an asset that each batch of messages updates. Received messages are deleted."""
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    trigger = MessageQueueTrigger(
        scheme="sqs",
        sqs_queue=queue,
        aws_conn_id=None,  # use the standard AWS variables
        max_messages=10,
        num_batches=10,
        waiter_delay=2,
    )
    return Asset(NAME, watchers=[AssetWatcher(name=NAME, trigger=trigger)])


@task
def plan_arrivals() -> list[str]:
    pipeline, settings = installed()
    context = get_current_context()
    messages = [
        message["Body"]
        for events in context["triggering_asset_events"].values()
        for event in events
        for message in event.extra["payload"]["message_batch"]
    ]
    with no_retry():
        return pipeline.plan_arrivals(context["run_id"], messages, settings)


if QUEUE:

    @dag(
        schedule=[watched_asset(QUEUE)],
        start_date=datetime(2026, 1, 1),
        catchup=False,
        # The next run takes all images that arrive during a run.
        max_active_runs=1,
        tags=["moodlake", "scoring"],
        default_args=DEFAULTS,
        doc_md=__doc__,
    )
    def score_on_arrival() -> None:
        score.expand(shard_id=plan_arrivals()) >> publish()

    score_on_arrival()
