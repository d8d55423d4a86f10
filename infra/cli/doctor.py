"""The command `doctor`."""

from __future__ import annotations

import os

import typer
from rich.markup import escape

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors
from moodlake.errors import UserError
from moodlake.settings import Settings

_MARKS = {
    "good": "[green]✓[/]",
    "doubtful": "[yellow]![/]",
    "bad": "[red]✗[/]",
    "absent": "[dim]-[/]",
}


def doctor(state: StateDir = DEFAULT_STATE) -> None:
    """Check an installation and suggest fixes; exit with code 1 if a check fails.

    The installation is the one that the MOODLAKE_* variables describe, or the local stack if none
    is set.
    """
    with report_errors():
        from infra.doctor import examine
        from infra.stack import attach

        if not Settings.configured():
            try:
                attach(state).point_here()
            except UserError as error:
                hint = "to check another installation, set its MOODLAKE_* variables"
                raise UserError(f"{error}; {hint}") from error
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise UserError(
                f"AWS_ENDPOINT_URL is {endpoint!r}, but must start with https:// or http://"
            )
        settings = Settings.from_environment()
        bad = 0
        for name, finding in examine(settings):
            bad += finding.state == "bad"
            mark = _MARKS[finding.state]
            console.print(f"{mark} [bold]{name}[/]: {escape(finding.detail)}", soft_wrap=True)
            if finding.remedy:
                console.print(f"  → {escape(finding.remedy)}", soft_wrap=True)
    if bad:
        raise typer.Exit(1)
