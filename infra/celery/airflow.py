"""Airflow whose tasks run in Celery workers, here or on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from infra.celery.postgres import PostgresService
from infra.celery.redis import RedisService
from infra.local.airflow import POOL_SLOTS, AirflowService
from infra.local.ports import ClusterPorts
from infra.local.service import NotReady, Service


class CeleryAirflow(AirflowService):
    """AirflowService with PostgreSQL, Redis and Celery workers.

    Args:
        folder, ports, dags, environment: see AirflowService.
        workers: number of workers.
    """

    LOST_AFTER = 60
    """Seconds after which a task without a heartbeat (sent every 5 s), or that no worker started,
    goes to another worker. Pauses of the API server are shorter."""

    def __init__(
        self,
        folder: Path,
        ports: ClusterPorts,
        dags: Path,
        environment: Mapping[str, str],
        workers: int,
    ) -> None:
        super().__init__(folder, ports, dags, environment)
        self._postgres = PostgresService(folder.with_name("postgres"), ports)
        self._redis = RedisService(folder.with_name("redis"), ports)
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]

    @property
    def needs(self) -> tuple[Service, ...]:
        return self._postgres, self._redis

    def executor(self) -> dict[str, Any]:
        database = f"postgresql+psycopg://{self._postgres.login}"
        return {
            "CORE__EXECUTOR": "CeleryExecutor",
            # No more tasks than the workers take at once: a queued one would count as lost.
            "CORE__PARALLELISM": POOL_SLOTS * len(self.workers),
            "DATABASE__SQL_ALCHEMY_CONN": database,
            "DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
            "CELERY__BROKER_URL": self._redis.login,
            "CELERY__RESULT_BACKEND": f"db+{database}",
            # Any worker may die: a single one keeps TorchServe busy.
            "CELERY__WORKER_CONCURRENCY": POOL_SLOTS,
            # Longer than any task may take (`retrain`: a day): after this time, Celery redelivers
            # an unfinished message.
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": 25 * 3600,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": self.LOST_AFTER,
            "SCHEDULER__TASK_QUEUED_TIMEOUT": self.LOST_AFTER,
            "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 10,
            # Tasks survive this many times LOST_AFTER without any worker.
            "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": 60,
        }

    def start(self) -> None:
        for service in self.needs:
            service.wait()
        super().start()
        # Workers write logs to a shared folder; no log server is needed.
        command = ["airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname"]
        for name in self.workers:
            self.spawn(name, [*command, name], self.environment())

    def check(self) -> str:
        """Check Airflow, and that each worker answers."""
        summary = super().check()
        try:
            with Celery(broker=self._redis.login) as celery:
                answers = celery.control.ping(timeout=1)
        except OperationalError as error:
            raise NotReady(str(error)) from error
        alive = {name.split("@")[-1] for answer in answers for name in answer}
        if silent := [name for name in self.workers if name not in alive]:
            raise NotReady(f"waiting for {', '.join(silent)}")
        return f"{summary}, {len(alive)} workers"
