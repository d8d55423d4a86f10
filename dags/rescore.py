"""Score existing images with the served model, then report how it differs from an older model.

Tasks share the pool of `score_images`. Runs of both DAGs may overlap: each object version gets one
row per model. A run scores at most 300 shards and reports the remaining objects as
`still_waiting`: trigger it again until none remain.
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
            None,
            type=["null", "string"],
            title="Old model",
            description="Version or leading digits of the digest of the model to compare with. "
            "Default: the model that scored before the served one.",
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
                prefix=params["prefix"] or "",
            )
        except DiffError as error:  # a retry finds no other model
            raise AirflowFailException(str(error)) from error
        return headline | {"still_waiting": published["still_waiting"]}

    done: Any = publish()
    score.expand(shard_id=plan_shards()) >> done
    report(done)


rescore()
