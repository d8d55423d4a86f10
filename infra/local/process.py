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
    """A process, identified by its id and creation time.

    A later process with the same id is not mistaken for it.
    """

    pid: int
    created: float

    def find(self) -> psutil.Process | None:
        """Return the process if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Child:
    """A program that runs in its own session and logs to a file.

    The program and its descendants end with this process, even if this process is killed.

    Attributes:
        log: file of its output.
        mark: random token in its environment, which its descendants inherit; see `terminate`.
        pid: its process id.
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
                # SPT_NOENV keeps setproctitle from overwriting the mark.
                env={**env, _MARK: self.mark, "SPT_NOENV": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        _guard().watch(self.mark)

    def exit_code(self) -> int | None:
        """Return the exit code, None while the program runs."""
        return self._popen.poll()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def terminate(marks: Collection[str], grace: float = _GRACE) -> None:
    """Terminate the children with these marks, and their descendants.

    Sends SIGTERM, and SIGKILL after `grace` seconds. Marks are used instead of process ids, which
    may have been reused by an unrelated process.
    """
    family = _family(marks)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=grace)
    for _ in range(3):  # for processes started meanwhile
        family = {*alive, *_family(marks)}
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(family, timeout=grace)


def _family(marks: Collection[str]) -> set[psutil.Process]:
    """Find processes with a mark and their descendants.

    The latter are needed because some programs, such as nginx, overwrite their environment.
    """
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
    """A process that terminates this program's children once this program has ended.

    It detects the end because a pipe closes that only this program holds open.
    """

    def __init__(self) -> None:
        code = "from infra.local.process import run_guard; run_guard()"
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


def run_guard() -> None:
    """Run the guard: read marks until the pipe closes, then terminate their processes."""
    if marks := set(sys.stdin.read().split()):
        terminate(marks)
