"""The command `maintain`: upkeep of the tables and of what runs leave behind."""

from __future__ import annotations

from typing import Annotated

import typer

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors
from moodlake.cli.results import point_at_tables


def maintain(
    retention_hours: Annotated[
        int, typer.Option(help="How long files stay that no version needs any more.")
    ] = 168,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Compact the tables, delete old files, clear abandoned work; Airflow does it daily."""
    with report_errors():
        from moodlake.scoring import maintenance

        params = maintenance.UpkeepParams(retention_hours=retention_hours)
        done = maintenance.maintain(point_at_tables(state), params)
    for name in ("results", "runs"):
        if counts := done[name]:
            console.print(
                f"{name}: {counts['files_before']} files are {counts['files']} now, "
                f"{counts['deleted']} old ones deleted"
            )
    console.print(f"work of {done['work']} abandoned runs cleared")
