"""Commands for the model versions that a running server has loaded: `moodlake model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors

app = typer.Typer(
    no_args_is_help=True, help="Manage the model versions that the local server has loaded."
)
VersionName = Annotated[str, typer.Argument(help="Version, as in `moodlake model list`.")]


@app.command("list")
def list_versions(state: StateDir = DEFAULT_STATE) -> None:
    """List the loaded versions and show which one is the default."""
    with report_errors():
        from infra.stack import attach

        versions = attach(state).versions.all()
    shown = Table("version", "digest", "ready", "default")
    for each in versions:
        ready, default = ("yes" if value else "no" for value in (each.ready, each.default))
        shown.add_row(each.version, each.digest[:12], ready, default)
    console.print(shown)


@app.command("add")
def add_version(
    archive: Annotated[Path, typer.Argument(help="The archive (.mar) of the model.")],
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Load an archive as an additional version, which requests can select."""
    with report_errors():
        from infra.stack import attach

        added = attach(state).versions.add(archive)
    console.print(
        f"Loaded version {added.version} at POST /predictions/emotions/{added.version}. To make it "
        f"the default, run `moodlake model use {added.version}`.",
        soft_wrap=True,
    )


@app.command("use")
def use_version(version: VersionName, state: StateDir = DEFAULT_STATE) -> None:
    """Make a loaded version the default; to roll back, name the previous version."""
    with report_errors():
        from infra.stack import attach

        used = attach(state).use_version(version)
    console.print(f"Version {used.version} ({used.digest[:12]}) is the default.")


@app.command("remove")
def remove_version(version: VersionName, state: StateDir = DEFAULT_STATE) -> None:
    """Unload a version that is not the default."""
    with report_errors():
        from infra.stack import attach

        attach(state).versions.remove(version)
    console.print(f"Removed version {version}.")
