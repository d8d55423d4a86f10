"""The `moodlake` command."""

from __future__ import annotations

import typer

from moodlake.cli import app as page
from moodlake.cli import (
    cloud,
    diff,
    doctor,
    local,
    maintain,
    report,
    results,
    serve,
    trace,
    versions,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From images in a bucket to a table of emotion distributions.\n\n"
    "`moodlake demo` shows the whole of it; `moodlake score photos/ --out results.csv` scores a "
    "folder at once.",
)
for command in (
    local.demo,
    results.score,
    results.table,
    trace.trace,
    diff.diff,
    report.report,
    page.app,
    serve.serve,
    local.up,
    local.put,
    local.run,
    local.env,
    maintain.maintain,
    local.status,
    doctor.doctor,
    local.down,
    results.release,
):
    app.command()(command)
app.add_typer(versions.app, name="model")
app.add_typer(cloud.app, name="cloud")
