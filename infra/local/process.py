"""Child processes that never outlive the command that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_GRACE = 8.0
_LIBC = ctypes.CDLL(None)


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
    """A program in a process group of its own, writing to a log file.

    It gets SIGTERM when the thread that started it ends, even by SIGKILL of the whole program.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str]
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        cwd.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        created = psutil.Process(self._popen.pid).create_time()
        self.id = ProcessId(self._popen.pid, created)

    def exit_code(self) -> int | None:
        """None while the program runs."""
        return self._popen.poll()

    def log_tail(self, lines: int = 12) -> str:
        """The end of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def terminate(ids: Sequence[ProcessId], grace: float = _GRACE) -> None:
    """End these processes and everything they started: SIGTERM, and after `grace` s SIGKILL."""
    family: dict[int, psutil.Process] = {}
    for process_id in ids:
        process = process_id.find()
        if process is None:
            continue
        family[process.pid] = process
        with contextlib.suppress(psutil.NoSuchProcess):
            family.update({child.pid: child for child in process.children(recursive=True)})
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(list(family.values()), timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    for process_id in ids:
        # What a dead leader left in its group, whose number is the leader's. While the group
        # lives no other process gets that number; if one has it, the group is gone.
        if process_id.pid in family or not psutil.pid_exists(process_id.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process_id.pid, signal.SIGKILL)


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
