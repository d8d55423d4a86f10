"""The command `app`: the web app."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors, stopping_cleanly
from moodlake.errors import UserError

_CHECK_SECONDS = 1.0


def app(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port. Default: 8501.")] = None,
    host: Annotated[
        str, typer.Option(help="Bind address. The web app has no authentication.")
    ] = "127.0.0.1",
    images: Annotated[
        bool, typer.Option("--images", help="Show images from buckets, not only uploads.")
    ] = False,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Start the web app, to try images and inspect runs and results; stop it with Ctrl-C."""
    with report_errors(), stopping_cleanly() as stopped:
        from infra.local.ports import Ports, ensure_free
        from infra.local.service import NotReady
        from infra.local.web_app import WebAppService
        from moodlake.settings import STATE_VARIABLE, Settings

        listening = port or Ports().page
        ensure_free(listening, host)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("AWS_", "MOODLAKE_"))
        }
        if "results_uri" not in Settings.configured():
            environment[STATE_VARIABLE] = str(state.absolute())
        if images:
            environment[Settings.variable("show_images")] = "true"
        try:
            with WebAppService(state.absolute() / "app", listening, environment, host) as service:
                service.wait()
                console.print(
                    f"The web app is at {service.url}. Press Ctrl-C to stop it.", soft_wrap=True
                )
                while not stopped.wait(_CHECK_SECONDS):
                    service.check_alive()
        except NotReady as error:
            raise UserError(str(error)) from error
