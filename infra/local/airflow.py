"""Airflow on this machine, with SQLite and the local executor."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.local.airflow_client import AirflowClient, AirflowError, TaskInstance
from infra.local.ports import HOST, Ports
from infra.local.service import BIN, NotReady, Service, kept_secret, write_secret
from infra.local.torchserve import TorchServeService
from moodlake.local_stack import without_aws
from moodlake.settings import Settings

USER = "admin"
DAG_ID = "score_images"
POOL = "torchserve"
POOL_SLOTS = TorchServeService.WORKERS
_RUN_TIMEOUT = 3600.0
_NO_LOG_SERVER = "--skip-serve-logs"
_ENDED = {
    "success": "done",
    "skipped": "skipped",
    "failed": "failed",
    "upstream_failed": "not started",
}


class AirflowService(Service):
    """API server, scheduler and DAG processor.

    Args:
        folder: AIRFLOW_HOME.
        ports: see Ports.
        dags: folder of DAG files.
        environment: variables that tasks need to reach S3 and TorchServe.
        dag_id: DAG that must be loaded before Airflow counts as ready.
    """

    name = "Airflow"
    PARSE_SECONDS = 30
    """Time between two readings of a DAG file."""

    def __init__(
        self,
        folder: Path,
        ports: Ports,
        dags: Path,
        environment: Mapping[str, str],
        dag_id: str = DAG_ID,
    ) -> None:
        super().__init__(folder)
        self.url = f"http://{HOST}:{ports.airflow}"
        self.password = self.secret("password.json")
        self._ports = ports
        self._dags = dags
        self._tasks = dict(environment)
        self._dag_id = dag_id
        # Logs are local files; a log server would listen on all interfaces.
        self._parts = {"api-server": [], "scheduler": [_NO_LOG_SERVER], "dag-processor": []}
        self._watches_arrivals = bool(Settings.from_environment(environment).arrivals_queue)
        if self._watches_arrivals:
            self._parts["triggerer"] = [_NO_LOG_SERVER]
        self.client = AirflowClient(self.url, USER, self.password)

    @property
    def needs(self) -> tuple[Service, ...]:
        """The services that must run before Airflow starts."""
        return ()

    def start(self) -> None:
        self.save_secrets()
        environment = self.environment()
        write_secret(self.folder / "users.json", {USER: self.password})
        migrate = subprocess.run(
            [str(BIN / "airflow"), "db", "migrate"],
            env={**without_aws(os.environ), **environment},
            capture_output=True,
            text=True,
        )
        if migrate.returncode:
            raise NotReady(f"Airflow's database migration failed: {migrate.stderr[-500:]}")
        for name in self._parts:
            self.start_part(name)

    def start_part(self, name: str) -> None:
        """Start one of Airflow's processes, named as in `airflow NAME`."""
        command = ["airflow", name, *self._parts[name]]
        self.spawn(f"airflow-{name}", command, self.environment())

    def executor(self) -> dict[str, Any]:
        """Return Airflow's settings of its executor and database."""
        return {
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 4,
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/airflow.db",
        }

    def environment(self) -> dict[str, str]:
        """Return the environment variables of each process."""
        settings = {
            "CORE__DAGS_FOLDER": self._dags,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.folder / "users.json",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__HOST": HOST,
            "API__PORT": self._ports.airflow,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "API__SECRET_KEY": kept_secret(self.folder / "api-key.json"),
            "API_AUTH__JWT_SECRET": kept_secret(self.folder / "jwt-key.json"),
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            # A watcher of arrivals starts after the second parse. Parsing costs processor time.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": (
                10 if self._watches_arrivals else self.PARSE_SECONDS
            ),
            "SCHEDULER__ENABLE_HEALTH_CHECK": False,
            # Adopt the tasks of a killed scheduler within a minute, not five.
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 20,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            "USAGE_DATA_COLLECTION__ENABLED": False,
            **self.executor(),
        }
        prefixed = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        return {
            "AIRFLOW_HOME": str(self.folder),
            # Great Expectations must not send usage data from a task.
            "GX_ANALYTICS_ENABLED": "false",
            **prefixed,
            **self._tasks,
        }

    def follow(self, run_id: str, announce: Callable[[str], None]) -> None:
        """Wait for the end of a run of DAG_ID.

        Args:
            run_id: the run.
            announce: receives a line for each change.

        Raises:
            AirflowError: the run failed, or has not ended after _RUN_TIMEOUT seconds.
        """
        deadline, announced = time.monotonic() + _RUN_TIMEOUT, ""
        while time.monotonic() < deadline:
            state = self.client.run_state(DAG_ID, run_id)
            tasks = self.client.task_instances(DAG_ID, run_id)
            ended = Counter(
                (task.task_id, _ENDED[task.state]) for task in tasks if task.state in _ENDED
            )
            line = ", ".join(f"{task} {end} x{n}" for (task, end), n in sorted(ended.items()))
            if line and line != announced:
                announce(f"  {line}")
                announced = line
            if state == "success":
                return
            if state == "failed":
                raise AirflowError(self._failure(run_id, tasks))
            time.sleep(1)
        raise AirflowError(f"run {run_id} has not ended after {_RUN_TIMEOUT:.0f} s")

    def _failure(self, run_id: str, tasks: Iterable[TaskInstance]) -> str:
        """Return the errors of a run's failed tasks."""
        failed = {task.task_id: task for task in tasks if task.state == "failed"}
        # Publishing always fails after another task did.
        causes = [name for name in failed if name != "publish"] or list(failed)
        problems = [self.client.problem(DAG_ID, run_id, failed[name]) for name in causes]
        return "\n".join(
            [
                f"run {run_id} failed in {', '.join(sorted(failed))}",
                *filter(None, problems),
                f"See the logs in {self.folder / 'logs'} and Airflow's web interface at {self.url}",
            ]
        )

    def check(self) -> str:
        """Check that scheduler and DAG processor are alive and the DAG is loaded without errors."""
        try:
            unhealthy = [name for name, state in self.client.health().items() if state != "healthy"]
            if unhealthy:
                raise NotReady(f"waiting for {', '.join(unhealthy)}")
            if errors := self.client.import_errors():
                raise NotReady(f"a DAG fails to import: {errors[0]}")
            if self._dag_id not in self.client.dags():
                raise NotReady(f"the DAG {self._dag_id} is not loaded yet")
            self.client.ensure_pool(POOL, POOL_SLOTS)
        except AirflowError as error:
            raise NotReady(str(error)) from error
        return f"scheduler and DAG processor alive, {self._dag_id} loaded"
