"""PostgreSQL on this machine: the database of an Airflow with Celery workers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg

from infra.celery.executables import find_executable
from infra.local.ports import HOST, ClusterPorts
from infra.local.service import NotReady, Service, write_private
from moodlake.errors import UserError

USER = "airflow"
DATABASE = "postgres"
"""The database that initdb creates."""
_SYSTEM_USER = "postgres"
"""The user of Debian's package. PostgreSQL does not run as root."""


class PostgresError(UserError):
    """PostgreSQL cannot be set up; the message says why."""


class PostgresService(Service):
    """A PostgreSQL server with one user, who has a password.

    Root runs it as the user `postgres`, who needs access to the folder.
    """

    name = "PostgreSQL"

    def __init__(self, folder: Path, ports: ClusterPorts) -> None:
        super().__init__(folder)
        self._port = ports.postgres
        self._password = self.secret("password.json")
        address = f"{HOST}:{self._port}/{DATABASE}"
        self.url = f"postgresql://{address}"
        self.login = f"{USER}:{self._password}@{address}"
        """User, password, host, port and database, as in a URL."""

    def start(self) -> None:
        self.save_secrets()
        data = self.folder / "data"
        if not data.exists():
            self._init(data)
        options = {
            "listen_addresses": HOST,
            "port": self._port,
            "unix_socket_directories": "",  # a socket's path has at most 107 bytes
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [find_executable("postgres"), "-D", str(data), *flags]
        self.spawn("postgres", [*_as_allowed(), *command], {})

    def _init(self, data: Path) -> None:
        initdb = find_executable("initdb")
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
                f"PostgreSQL cannot use the folder {data}: {made.stderr.strip()[-500:]}. If root "
                f"starts it, the user {_SYSTEM_USER} needs access to that folder: choose another "
                "folder with --state, or start as another user"
            )
        part.rename(data)

    def check(self) -> str:
        """Check that it accepts the password."""
        try:
            with psycopg.connect(f"postgresql://{self.login}", connect_timeout=5) as connection:
                return f"version {connection.info.server_version // 10000}"
        except psycopg.Error as error:
            raise NotReady(str(error)) from error


def _as_allowed() -> list[str]:
    """Return the prefix of a PostgreSQL command: root runs it as another user."""
    # runuser stays as the parent, with root's environment: in a container, root may be unable to
    # read the environment, and so the mark, of another user's process.
    return [find_executable("runuser"), "-u", _SYSTEM_USER, "--"] if os.geteuid() == 0 else []
