"""Airflow whose tasks run in workers of their own, here or on other machines: Celery."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from infra.cluster.postgres import PostgresService
from infra.cluster.redis import RedisService
from infra.local.airflow import POOL_SLOTS, AirflowService
from infra.local.ports import ClusterPorts
from infra.local.service import NotReady, Service


class CeleryAirflow(AirflowService):
    """AirflowService with PostgreSQL, Redis and some workers.

    Args:
        folder, ports, dags, environment: see AirflowService.
        workers: how many.
    """

    LOST_AFTER = 60
    """Seconds. A task tells every 5 s that it is alive. One that has been silent for this long, or
    that no worker has begun, is given to another worker; a pause of the API server is shorter."""

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
            # As many as the workers take: one that waits in the queue would look lost.
            "CORE__PARALLELISM": POOL_SLOTS * len(self.workers),
            "DATABASE__SQL_ALCHEMY_CONN": database,
            "DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
            "CELERY__BROKER_URL": self._redis.login,
            "CELERY__RESULT_BACKEND": f"db+{database}",
            # One worker alone keeps TorchServe busy: any may die.
            "CELERY__WORKER_CONCURRENCY": POOL_SLOTS,
            # Longer than any task may take (`retrain`: a day): by then Celery, too, takes a
            # message that is not done with for lost.
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": 25 * 3600,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": self.LOST_AFTER,
            "SCHEDULER__TASK_QUEUED_TIMEOUT": self.LOST_AFTER,
            "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 10,
            # So many times LOST_AFTER may pass without any worker.
            "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": 60,
        }

    def start(self) -> None:
        for service in self.needs:
            service.wait()
        super().start()
        # Their logs lie in the same folder here: nobody has to fetch them from a worker.
        command = ["airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname"]
        for name in self.workers:
            self.spawn(name, [*command, name], self.environment())

    def check(self) -> str:
        """As without workers, and each worker answers."""
        seen = super().check()
        try:
            with Celery(broker=self._redis.login) as celery:
                answers = celery.control.ping(timeout=1)
        except OperationalError as error:
            raise NotReady(str(error)) from error
        alive = {name.split("@")[-1] for answer in answers for name in answer}
        if silent := [name for name in self.workers if name not in alive]:
            raise NotReady(f"waiting for {', '.join(silent)}")
        return f"{seen}, {len(alive)} workers"
