"""PostgreSQL on this machine: the database of an Airflow that has workers of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg

from infra.cluster.programs import find_program
from infra.local.ports import HOST, ClusterPorts
from infra.local.service import NotReady, Service, kept_secret, write_private
from moodlake.errors import UserError

USER = "airflow"
DATABASE = "postgres"
"""The one that initdb makes."""
_SYSTEM_USER = "postgres"
"""Whom Debian's package makes. PostgreSQL refuses to run as root."""


class PostgresError(UserError):
    """PostgreSQL cannot be set up; the message says why."""


class PostgresService(Service):
    """A cluster of databases of its own, with one user, who has a password.

    Root starts it as the user `postgres`, who then has to reach the folder.
    """

    name = "PostgreSQL"

    def __init__(self, folder: Path, ports: ClusterPorts) -> None:
        super().__init__(folder)
        self._port = ports.postgres
        self._password = kept_secret(folder / "password.json")
        address = f"{HOST}:{self._port}/{DATABASE}"
        self.url = f"postgresql://{address}"
        self.login = f"{USER}:{self._password}@{address}"
        """User, password, host, port and database, as in an address."""

    def start(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            self._init(data)
        options = {
            "listen_addresses": HOST,
            "port": self._port,
            "unix_socket_directories": "",  # a socket's path has at most 107 bytes
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [find_program("postgres"), "-D", str(data), *flags]
        self.spawn("postgres", [*_as_allowed(), *command], {})

    def _init(self, data: Path) -> None:
        initdb = find_program("initdb")
        part, password = self.folder / "data.part", self.folder / "initdb-password"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700, parents=True)
        write_private(password, self._password)
        if os.geteuid() == 0:
            for path in (part, password):
                shutil.chown(path, _SYSTEM_USER, _SYSTEM_USER)
        options = ["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256"]
        command = [initdb, "-D", str(part), "-U", USER, f"--pwfile={password}", *options]
        made = subprocess.run(
            [*_as_allowed(), *command], cwd=self.folder, capture_output=True, text=True
        )
        password.unlink()
        if made.returncode:
            raise PostgresError(
                f"PostgreSQL cannot keep its files in {data}: {made.stderr.strip()[-500:]}. If "
                f"root starts it, the user {_SYSTEM_USER} has to reach that folder: choose "
                "another one with --state, or start as somebody else"
            )
        part.rename(data)

    def check(self) -> str:
        """It takes the password."""
        try:
            with psycopg.connect(f"postgresql://{self.login}", connect_timeout=5) as connection:
                return f"version {connection.info.server_version // 10000}"
        except psycopg.Error as error:
            raise NotReady(str(error)) from error


def _as_allowed() -> list[str]:
    """What comes before a command of PostgreSQL."""
    # runuser stays, as root, above it: without it root may be unable to see, in a container, that
    # the process is a Child, whose environment belongs to another user.
    return [find_program("runuser"), "-u", _SYSTEM_USER, "--"] if os.geteuid() == 0 else []
