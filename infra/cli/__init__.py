"""Commands that run and operate servers; an entry point adds them to `moodlake`."""

from __future__ import annotations

import typer

from infra.cli import cloud, doctor, local, model, serve, web_app

_PANEL = "Run servers"


def add_commands(app: typer.Typer) -> None:
    """Add the operators' commands to the `moodlake` command."""
    for command in (
        local.demo,
        local.up,
        local.put,
        local.run,
        local.env,
        local.status,
        local.down,
        web_app.app,
        serve.serve,
        doctor.doctor,
    ):
        app.command(rich_help_panel=_PANEL)(command)
    app.add_typer(model.app, name="model", rich_help_panel=_PANEL)
    app.add_typer(cloud.app, name="cloud", rich_help_panel=_PANEL)
