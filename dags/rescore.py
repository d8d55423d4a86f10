"""Score old images with a new model, then write a report of what it changes.

The model is the one that is served. Its shards take slots of the same pool as those of
`score_images`; runs of both may meet, each object version still gets one row. A run takes 300
shards at most and says how many objects are still waiting: trigger it again until none is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Param, dag, get_current_context, task
from scoring_steps import DEFAULTS, PARAMS, plan_shards, publish, score


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    max_active_runs=1,
    tags=["moodlake", "scoring"],
    default_args=DEFAULTS,
    params={
        **PARAMS,
        "against": Param(
            "", type="string", description="How the old model's digest begins; empty: the newest"
        ),
    },
    doc_md=__doc__,
)
def rescore() -> None:
    @task
    def report(published: dict[str, Any]) -> dict[str, Any]:
        from moodlake.scoring.reports.diff import DiffError
        from moodlake.scoring.reports.diff_report import write_report
        from moodlake.settings import Settings

        context, settings = get_current_context(), Settings.from_environment()
        params = context["params"]
        try:
            headline = write_report(
                settings,
                context["run_id"],
                old=params["against"],
                new=published["model_digest"],
                bucket=params["bucket"] or settings.images_bucket,
                prefix=params["prefix"],
            )
        except DiffError as error:  # no retry finds another model
            raise AirflowFailException(str(error)) from error
        return headline | {"still_waiting": published["still_waiting"]}

    done: Any = publish()
    score.expand(shard_id=plan_shards()) >> done
    report(done)


rescore()
