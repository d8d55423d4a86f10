"""Keep the tables quick and small: compact, delete what is old, clear what was abandoned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task


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
        "target_mb": Param(128, type="integer", minimum=1, title="Size of compacted files, MB"),
        "retention_hours": Param(168, type="integer", minimum=2, title="Hours to keep old files"),
        "work_days": Param(7, type="integer", minimum=1, title="Days to keep abandoned work"),
        "refused_days": Param(
            30, type=["null", "integer"], minimum=1, title="Days to keep refused rows"
        ),
        "reports_days": Param(
            None, type=["null", "integer"], minimum=1, title="Days to keep reports"
        ),
    },
    doc_md=__doc__,
)
def maintain() -> None:
    @task
    def upkeep() -> dict[str, Any]:
        from moodlake.scoring import maintenance
        from moodlake.settings import Settings

        params = maintenance.UpkeepParams(**get_current_context()["params"])
        return maintenance.maintain(Settings.from_environment(), params)

    upkeep()


maintain()
