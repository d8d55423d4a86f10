"""A step of a run in a process of its own, and the instants at which that process is killed."""

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
    """SIGKILL of the process itself when it comes to a function.

    Attributes:
        function: its full name, where it is looked up: `package.module:Class.method`.
        after: kill when it has returned, instead of before it is called.
        call: at which of its calls, from 1.
        delay: seconds after the call began, instead; another process sends the signal, whatever
            this one is busy with.
    """

    function: str
    after: bool = False
    call: int = 1
    delay: float | None = None

    def arm(self) -> None:
        """Lay the trap in this process."""
        module, _, path = self.function.partition(":")
        owner, _, name = path.rpartition(".")
        place = pkgutil.resolve_name(f"{module}:{owner}" if owner else module)
        setattr(place, name, self._trapped(getattr(place, name)))

    def _trapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        @functools.wraps(function)
        def trapped(*args: Any, **options: Any) -> Any:
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

        return trapped


@dataclass(frozen=True)
class Outcome:
    """How a step ended that was not killed.

    Attributes:
        value: what it returned.
        error: class and message of what it raised; empty if it did not.
        translate_errors: the error was one for people.
        final: trying again will not mend it.
    """

    value: Any = None
    error: str = ""
    translate_errors: bool = True
    final: bool = False


def perform(
    step: str,
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    kill: Kill | None,
    answer: Connection,
) -> None:
    """Do a step of `moodlake.scoring.pipeline` in this process, and tell how it ended."""
    os.environ.update(environment)
    if kill:
        kill.arm()
    try:
        value = getattr(pipeline, step)(*arguments, Settings.from_environment())
    except Exception as error:
        words, final = isinstance(error, UserError), isinstance(error, SetupError)
        answer.send(Outcome(None, f"{type(error).__name__}: {error}", words, final))
    else:
        answer.send(Outcome(value))


def main(run_id: str, params: str) -> None:
    """A whole run in this process, for what is set up from outside it."""
    settings = Settings.from_environment()
    shards = pipeline.plan_run(run_id, RunParams(**json.loads(params)), settings)
    for shard in shards:
        pipeline.score_shard(run_id, shard, settings)
    pipeline.publish(run_id, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
