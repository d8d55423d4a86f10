"""The `report` command: the report of a run."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors
from moodlake.cli.results import point_at_tables


def report(
    run_id: Annotated[str, typer.Argument(help="Id of the run, as in Airflow and in the tables.")],
    out: Annotated[
        str | None,
        typer.Option(
            help="HTML file to write. Default: reports/RUN_ID/run.html beside the tables."
        ),
    ] = None,
    thumbnails: Annotated[
        bool | None,
        typer.Option(help="Include small images. Default: report.thumbnails of the policy."),
    ] = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Regenerate a run's report from the tables."""
    with report_errors():
        from moodlake.errors import UserError
        from moodlake.scoring.reports.run_report import render_run, report_uri
        from moodlake.scoring.run.policy import Policy
        from moodlake.scoring.sources import storage
        from moodlake.scoring.sources.s3 import image_of, s3_client
        from moodlake.scoring.tables.results import ResultsTable
        from moodlake.scoring.tables.runs import latest_run
        from moodlake.scoring.tables.summary import examples_of

        settings, policy = point_at_tables(state), Policy.load().report
        record = latest_run(settings.runs_table, run_id)
        if record is None:
            raise UserError(f"no run {run_id!r} in {settings.runs_table}")
        rows = ResultsTable(settings.results_table).of_run(run_id, record["started_at"])
        wanted = policy.thumbnails if thumbnails is None else thumbnails
        read_image = partial(image_of, s3_client()) if wanted else None
        page = render_run(record, examples_of(rows, policy.examples), read_image).encode()
        target = out or report_uri(settings.results_uri, run_id)
        storage.write_bytes(target, page)
    console.print(f"-> [bold]{target}", soft_wrap=True)
