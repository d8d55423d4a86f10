"""Score what is dropped into the installation's bucket, as S3 tells an SQS queue of it.

There is such a DAG where MOODLAKE_ARRIVALS_QUEUE names the queue's URL. A notification may be lost;
the hourly `score_images` finds what it told of.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Asset, AssetWatcher, dag, get_current_context, task
from scoring_steps import DEFAULTS, installed, no_retry, publish, score

from moodlake.settings import Settings

QUEUE = Settings.from_environment().arrivals_queue
NAME = "moodlake-arrivals"


def watched(queue: str) -> Asset:
    """Updated by each batch of messages, which are deleted from the queue."""
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    trigger = MessageQueueTrigger(
        scheme="sqs",
        sqs_queue=queue,
        aws_conn_id=None,  # the standard AWS variables, as for all else
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
        schedule=[watched(QUEUE)],
        start_date=datetime(2026, 1, 1),
        catchup=False,
        # What arrives meanwhile is taken by the next run, all at once.
        max_active_runs=1,
        tags=["moodlake", "scoring"],
        default_args=DEFAULTS,
        doc_md=__doc__,
    )
    def score_on_arrival() -> None:
        score.expand(shard_id=plan_arrivals()) >> publish()

    score_on_arrival()
