"""The `maintain` command: upkeep of the tables and of the files that runs leave behind."""

from __future__ import annotations

from typing import Annotated

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors
from moodlake.cli.options import option_of
from moodlake.cli.results import point_at_tables
from moodlake.scoring.run.params import UpkeepParams


def maintain(
    retention_hours: Annotated[
        int, option_of(UpkeepParams, "retention_hours")
    ] = UpkeepParams.retention_hours,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Compact the tables; delete old files and leftovers of abandoned runs.
    Airflow runs it daily.
    """
    with report_errors():
        from moodlake.scoring import maintenance

        params = UpkeepParams(retention_hours=retention_hours)
        counts = maintenance.maintain(point_at_tables(state), params)
    for name in ("results", "runs"):
        if files := counts[name]:
            console.print(
                f"{name}: {files['files_before']} files compacted to {files['files']}, "
                f"{files['deleted']} old files deleted"
            )
    console.print(f"{counts['work']} abandoned runs deleted")
