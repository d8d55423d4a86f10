"""Steps of a run in a separate process, and the points at which to kill that process."""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from moodlake.errors import UserError
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.objects import SetupError
from moodlake.settings import Settings


@dataclass(frozen=True)
class Kill:
    """Makes a process send SIGKILL to itself when it calls a function.

    Attributes:
        function: the full name by which it is looked up: `package.module:Class.method`.
        after: kill after the function returns instead of before the call.
        call: the number of the call to kill at, from 1.
        delay: kill this many seconds after the call starts instead; another process sends the
            signal, so a busy process is killed too.
    """

    function: str
    after: bool = False
    call: int = 1
    delay: float | None = None

    def arm(self) -> None:
        """Replace the function in this process."""
        module, _, path = self.function.partition(":")
        owner, _, name = path.rpartition(".")
        place = pkgutil.resolve_name(f"{module}:{owner}" if owner else module)
        setattr(place, name, self._wrap(getattr(place, name)))

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            due = calls == self.call
            if due and self.delay is not None:
                subprocess.Popen(["sh", "-c", f"sleep {self.delay}; kill -9 {os.getpid()}"])
            elif due and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **options)
            if due and self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step that was not killed.

    Attributes:
        value: the returned value.
        error: the class and message of the raised exception; empty on success.
        is_user_error: whether the exception is a `UserError`; True on success.
        no_retry: whether the error is permanent, so that a retry is useless.
    """

    value: Any = None
    error: str = ""
    is_user_error: bool = True
    no_retry: bool = False


def perform(
    step: str,
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    kill: Kill | None,
    sender: Connection,
) -> None:
    """Run a step of `moodlake.scoring.pipeline` in this process, and send its outcome."""
    os.environ.update(environment)
    if kill:
        kill.arm()
    try:
        value = getattr(pipeline, step)(*arguments, Settings.from_environment())
    except Exception as error:
        is_user_error, no_retry = isinstance(error, UserError), isinstance(error, SetupError)
        message = f"{type(error).__name__}: {error}"
        sender.send(Outcome(None, message, is_user_error, no_retry))
    else:
        sender.send(Outcome(value))


def main(run_id: str, params: str) -> None:
    """Do a whole run in this process, for tests that set the process up from outside."""
    settings = Settings.from_environment()
    shards = pipeline.plan_run(run_id, RunParams(**json.loads(params)), settings)
    for shard in shards:
        pipeline.score_shard(run_id, shard, settings)
    pipeline.publish(run_id, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
