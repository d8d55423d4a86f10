"""Compact the tables, delete old files, and delete what abandoned runs left behind."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from moodlake.scoring.options import options_of
from moodlake.scoring.run.params import UpkeepParams


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["moodlake", "maintenance"],
    default_args={
        "owner": "moodlake",
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(hours=3),
    },
    params={
        option.name: Param(option.default, **option.json_schema())
        for option in options_of(UpkeepParams)
    },
    doc_md=__doc__,
)
def maintain() -> None:
    @task
    def upkeep() -> dict[str, Any]:
        from moodlake.scoring import maintenance
        from moodlake.settings import Settings

        params = UpkeepParams(**get_current_context()["params"])
        return maintenance.maintain(Settings.from_environment(), params)

    upkeep()


maintain()
