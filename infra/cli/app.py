"""The command `app`: the page."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors, stopping_cleanly
from moodlake.errors import UserError

_LOOK_SECONDS = 1.0


def app(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where it listens; 8501 if not given.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address it listens on; the page asks nobody for a password.")
    ] = "127.0.0.1",
    images: Annotated[
        bool, typer.Option("--images", help="Read images out of buckets and show them.")
    ] = False,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Show the page: try images, look at runs and results; Ctrl-C stops it."""
    with report_errors(), stopping_cleanly() as stopped:
        from infra.local.page import PageService
        from infra.local.ports import Ports, ensure_free
        from infra.local.service import NotReady
        from moodlake.settings import STATE_VARIABLE, Settings

        listening = port or Ports().page
        ensure_free(listening, host)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("AWS_", "MOODLAKE_"))
        }
        if Settings.variable("results_uri") not in environment:
            environment[STATE_VARIABLE] = str(state.absolute())
        if images:
            environment[Settings.variable("show_images")] = "true"
        try:
            with PageService(state.absolute() / "app", listening, environment, host) as page:
                page.wait()
                console.print(f"The page is at {page.url}. Ctrl-C stops it.", soft_wrap=True)
                while not stopped.wait(_LOOK_SECONDS):
                    page.check_alive()
        except NotReady as error:
            raise UserError(str(error)) from error
