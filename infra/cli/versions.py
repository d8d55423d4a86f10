"""Commands for the versions of the model that a running server holds: `moodlake model ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors

app = typer.Typer(no_args_is_help=True, help="Versions of the model, side by side.")
VersionName = Annotated[str, typer.Argument(help="As `moodlake model list` shows it.")]


@app.command("list")
def list_versions(state: StateDir = DEFAULT_STATE) -> None:
    """Show the versions that are served, and which one answers."""
    with report_errors():
        from infra.stack import attach

        versions = attach(state).versions.all()
    shown = Table("version", "digest", "ready", "answers")
    for each in versions:
        ready, answers = ("yes" if value else "no" for value in (each.ready, each.default))
        shown.add_row(each.version, each.digest[:12], ready, answers)
    console.print(shown)


@app.command("add")
def add_version(archive: Path, state: StateDir = DEFAULT_STATE) -> None:
    """Load an archive beside the others; requests may name its version from then on."""
    with report_errors():
        from infra.stack import attach

        added = attach(state).versions.add(archive)
    console.print(
        f"version {added.version} answers POST /predictions/emotions/{added.version}; "
        f"`moodlake model use {added.version}` makes it the default"
    )


@app.command("use")
def use_version(version: VersionName, state: StateDir = DEFAULT_STATE) -> None:
    """Let a version answer from now on: the new one, or, to roll back, the old one."""
    with report_errors():
        from infra.stack import attach

        used = attach(state).use_version(version)
    console.print(f"version {used.version} ({used.digest[:12]}) answers now")


@app.command("remove")
def remove_version(version: VersionName, state: StateDir = DEFAULT_STATE) -> None:
    """Unload a version that is not the one that answers."""
    with report_errors():
        from infra.stack import attach

        attach(state).versions.remove(version)
    console.print(f"version {version} is gone")
