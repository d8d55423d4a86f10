"""The `moodlake` command."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from moodlake.cli import diff, maintain, report, results, trace

EXTENSIONS = "moodlake.commands"
"""Entry points of this group are functions that add commands to the given app."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn images in a bucket into a table of emotion distributions.\n\n"
    "`moodlake demo` runs a complete example; `moodlake score photos/ --out results.csv` scores a "
    "folder.",
)
for command in (
    results.score,
    results.table,
    trace.trace,
    diff.diff,
    report.report,
    maintain.maintain,
    results.release,
):
    app.command(rich_help_panel="Score and analyse")(command)
for extension in entry_points(group=EXTENSIONS):
    extension.load()(app)
