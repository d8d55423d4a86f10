"""Shared parts of the commands: terminal output, error messages and common options.

Commands import slow modules, and modules of an extra, only when they run. Help is therefore quick,
and scoring works without the extra for local servers.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from moodlake.errors import UserError
from moodlake.settings import PROJECT_ROOT

DEFAULT_STATE = PROJECT_ROOT / ".moodlake"
DEMO_STATE = DEFAULT_STATE / "demo"

console = Console(emoji=False)  # an ARN has `:secret:` in it
errors = Console(stderr=True, emoji=False)

StateDir = Annotated[
    Path, typer.Option("--state", help="Folder for files and logs of the local servers.")
]
TableUri = Annotated[
    str | None,
    typer.Option(help="Delta table URI. Default: the results table of the running local stack."),
]
ArchivePath = Annotated[Path, typer.Option("--model", help="Model archive (.mar).")]


@contextmanager
def report_errors() -> Iterator[None]:
    """Print errors that a user can fix as one message, and exit with code 1."""
    try:
        yield
    except (UserError, OSError, ValueError) as error:
        raise _exit_with(str(error)) from error
    except ModuleNotFoundError as error:
        advice = "install the extra that this command needs: pip install 'moodlake[local]'"
        raise _exit_with(f"{error}; {advice}") from error
    except Exception as error:
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if isinstance(error, TableNotFoundError):
            raise _exit_with(
                f"there is no results table: {error}; check its address, or score images first"
            ) from error
        if isinstance(error, DeltaError):
            raise _exit_with(str(error)) from error
        raise


@contextmanager
def stopping_cleanly(terminated: int = 0) -> Iterator[threading.Event]:
    """Interrupt the block on SIGTERM and on Ctrl-C; the event is set on SIGTERM.

    Args:
        terminated: exit code after SIGTERM. After Ctrl-C it is 130.
    """
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped
    except KeyboardInterrupt as error:
        raise typer.Exit(terminated if stopped.is_set() else 130) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_undisturbed(stop: Callable[[], None]) -> None:
    """Stop servers, ignoring a second Ctrl-C, which would leave some of them running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stop()


def _exit_with(message: str) -> typer.Exit:
    errors.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(1)
