"""Retrain with params.yaml, and release the model if it is better on the same data."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import dag, task


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    # Concurrent runs would write the same files.
    max_active_runs=1,
    tags=["moodlake", "training"],
    default_args={
        "owner": "moodlake",
        "retries": 1,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(hours=24),
    },
    doc_md=__doc__,
)
def retrain() -> None:
    @task
    def reproduce_and_compare() -> dict[str, Any]:
        from moodlake.inference.bundle import BundleError
        from training.tools.retrain import retrain

        try:
            outcome = retrain()
        except BundleError as error:  # a retry does not make models comparable
            raise AirflowFailException(str(error)) from error
        metrics = {each.metric: [each.released, each.candidate] for each in outcome.comparisons}
        return {"released": outcome.released, "metrics": metrics}

    reproduce_and_compare()


retrain()
