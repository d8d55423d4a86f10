"""Redis on this machine: the queue between Airflow's scheduler and its Celery workers."""

from __future__ import annotations

from pathlib import Path

import redis

from infra.celery.executables import find_executable
from infra.local.ports import HOST, ClusterPorts
from infra.local.service import NotReady, Service, write_private


class RedisService(Service):
    """Redis with a password. It writes nothing to disk: Airflow's database records all tasks."""

    name = "Redis"

    def __init__(self, folder: Path, ports: ClusterPorts) -> None:
        super().__init__(folder)
        self._port = ports.redis
        self._password = self.secret("password.json")
        self.url = f"redis://{HOST}:{self._port}/0"
        self.login = f"redis://:{self._password}@{HOST}:{self._port}/0"
        """The URL with the password."""

    def start(self) -> None:
        self.save_secrets()
        config = self.folder / "redis.conf"
        settings = {
            "bind": HOST,
            "port": self._port,
            "requirepass": self._password,
            "save": '""',
            "appendonly": "no",
            "set-proc-title": "no",  # "yes" overwrites the title that marks a Child
        }
        write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        self.spawn("redis", [find_executable("redis-server"), str(config)], {})

    def check(self) -> str:
        """Check that it accepts the password."""
        try:
            with redis.Redis.from_url(self.login, socket_timeout=5) as client:
                return f"version {client.info('server')['redis_version']}"
        except redis.RedisError as error:
            raise NotReady(str(error)) from error
