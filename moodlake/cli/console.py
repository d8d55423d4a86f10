"""What the commands share: the terminal, how errors are told, common options.

Commands import what is heavy, or needs an extra, only when they run: help comes at once, and
scoring works where the local servers are not installed.
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
    Path, typer.Option("--state", help="Where the local servers keep their files and logs.")
]
TableUri = Annotated[
    str | None, typer.Option(help="A Delta table; that of the running stack if not given.")
]
ArchivePath = Annotated[Path, typer.Option("--model", help="The archive (.mar) of the model.")]


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn the errors that a person can mend into one message and exit code 1."""
    try:
        yield
    except (UserError, OSError, ValueError) as error:
        raise _told(str(error)) from error
    except ModuleNotFoundError as error:
        advice = "this command needs the extra: pip install 'moodlake[local]'"
        raise _told(f"{error}; {advice}") from error
    except Exception as error:
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if isinstance(error, TableNotFoundError):
            raise _told("there is no results table yet; score something first") from error
        if isinstance(error, DeltaError):
            raise _told(str(error)) from error
        raise


@contextmanager
def stopping_cleanly(terminated: int = 0) -> Iterator[threading.Event]:
    """An event that SIGTERM sets; it and Ctrl-C interrupt whatever is going on.

    Args:
        terminated: the exit code after SIGTERM; after Ctrl-C it is 130.
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
    """Stop servers; a second Ctrl-C must not leave half of them running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stop()


def _told(message: str) -> typer.Exit:
    errors.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(1)
