"""The base class of local services, and their secrets."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local.process import Child, terminate
from moodlake.local_stack import without_aws

BIN = Path(sys.executable).parent
_START_SECONDS = 300.0
_POLL_SECONDS = 0.2


class NotReady(Exception):
    """A service does not work yet; the message says why."""


class Startable(ABC):
    """A context manager that starts on entry and stops on exit."""

    @abstractmethod
    def start(self) -> None:
        """Start."""

    @abstractmethod
    def stop(self) -> None:
        """Stop; does nothing if nothing was started."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Service(Startable):
    """A server of one or more processes.

    Attributes:
        name: display name.
        url: address of the service.
        children: its processes by name, once started.
    """

    name: str
    url: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, Child] = {}
        self._secrets: dict[Path, str] = {}

    @abstractmethod
    def start(self) -> None:
        """Start the processes without waiting until they are ready."""

    @abstractmethod
    def check(self) -> str:
        """Use the service; return a short summary, or raise NotReady."""

    def wait(self, seconds: float = _START_SECONDS) -> str:
        """Wait until the service works; return the summary of `check`.

        Raises:
            NotReady: a process ended, or the time is up; with the end of the logs.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.check()
            except NotReady as error:
                problem = str(error)
            for name, child in self.children.items():
                if (code := child.exit_code()) is not None:
                    problem = f"{name} ended with code {code}"
                    deadline = -math.inf
            if time.monotonic() > deadline:
                logs = "".join(
                    f". The log {child.log} ends:\n{child.log_tail()}"
                    for child in self.children.values()
                )
                raise NotReady(f"{self.name} did not start: {problem}{logs}")
            time.sleep(_POLL_SECONDS)

    def check_alive(self) -> None:
        """Raise NotReady, with the end of the log, if a process has ended by itself."""
        for name, child in self.children.items():
            if (code := child.exit_code()) is not None:
                raise NotReady(
                    f"{self.name} is gone: {name} ended with code {code}. "
                    f"The log {child.log} ends:\n{child.log_tail()}"
                )

    def stop(self) -> None:
        """Terminate the processes and their descendants."""
        terminate([child.mark for child in self.children.values()])
        self.children.clear()

    def secret(self, name: str) -> str:
        """Return the random secret in a file of the folder, or a new one for `save_secrets`."""
        path = self.folder / name
        self._secrets[path] = _read_secret(path) or secrets.token_urlsafe(24)
        return self._secrets[path]

    def save_secrets(self) -> None:
        """Write new secrets to their files. Called at the start: a constructor writes no file."""
        for path, secret in self._secrets.items():
            if not path.exists():
                write_secret(path, secret)

    def spawn(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        """Start a process that writes its log to the service's folder."""
        self.children[name] = Child(
            [str(BIN / command[0]), *command[1:]],
            log=self.folder / "logs" / f"{name}.log",
            cwd=self.folder,
            env={
                **without_aws(os.environ),
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                **env,
            },
        )


def write_secret(path: Path, content: object) -> None:
    """Write JSON to a file that only its owner can read."""
    write_private(path, json.dumps(content, indent=2))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.touch(mode=0o600)
    part.write_text(text, "utf-8")
    part.replace(path)


def kept_secret(path: Path) -> str:
    """Return the random secret in a file, which is created if absent."""
    if (secret := _read_secret(path)) is None:
        secret = secrets.token_urlsafe(24)
        write_secret(path, secret)
    return secret


def _read_secret(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
