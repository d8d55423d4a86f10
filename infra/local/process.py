"""Child processes that never outlive the command that started them."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_GRACE = 8.0
_MARK = "MOODLAKE_CHILD"


@dataclass(frozen=True)
class ProcessId:
    """A process that can be told from a later one with the same number."""

    pid: int
    created: float

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Child:
    """A program in a session of its own, writing to a log file.

    It, and all that it started, ends with the program that made it, even if that was killed.

    Attributes:
        log: the file it writes to.
        mark: a random word in the environment of it and of all that it starts; see `terminate`.
        pid: its process number.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str]
    ) -> None:
        self.log = log
        self.mark = secrets.token_hex(8)
        log.parent.mkdir(parents=True, exist_ok=True)
        cwd.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                cwd=cwd,
                # SPT_NOENV: setproctitle would write its titles over the mark.
                env={**env, _MARK: self.mark, "SPT_NOENV": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        _guard().watch(self.mark)

    def exit_code(self) -> int | None:
        """None while the program runs."""
        return self._popen.poll()

    def log_tail(self, lines: int = 12) -> str:
        """The end of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def terminate(marks: Collection[str], grace: float = _GRACE) -> None:
    """End the `Child`ren of these marks and all they started: SIGTERM, and after `grace` s SIGKILL.

    A process is known by the mark in its environment, which every descendant inherits: numbers
    of processes and groups may belong to a stranger by the time a record of them is read.
    """
    family = _family(marks)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=grace)
    for _ in range(3):  # what it started meanwhile
        family = {*alive, *_family(marks)}
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(family, timeout=grace)


def _family(marks: Collection[str]) -> set[psutil.Process]:
    """Those with a mark, and their descendants: some, as nginx, write over their environment."""
    found = set(_marked(marks))
    for process in list(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return found


def _marked(marks: Collection[str]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get(_MARK) in marks:
                found.append(process)
    return found


class _Guard:
    """A process that ends this program's children if this program ends without having done so.

    It learns of the end from a pipe that only this program holds open.
    """

    def __init__(self) -> None:
        code = "from infra.local.process import stand_guard; stand_guard()"
        self._popen = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, mark: str) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(f"{mark}\n".encode())
        self._popen.stdin.flush()


@cache
def _guard() -> _Guard:
    return _Guard()


def stand_guard() -> None:
    """What the guard does: read marks until there is nobody to send more, then end their owners."""
    if marks := set(sys.stdin.read().split()):
        terminate(marks)
