"""The part of Airflow's REST API (v2) that the local stack and the demo use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from moodlake.errors import UserError

_PAGE = 100  # items; Airflow returns no more at once
_PARTS = ("metadatabase", "scheduler", "dag_processor", "execution API")


class AirflowError(UserError):
    """Airflow is unreachable or answers with an error; the message names the request."""


class TaskInstance(NamedTuple):
    """A task instance of a run.

    Attributes:
        id: unique id; the title of the task's process contains it.
        task_id: name in the DAG.
        map_index: index of a mapped task, else -1.
        state: Airflow's state; None until the task is scheduled.
        attempts: how often it was started.
    """

    id: str
    task_id: str
    map_index: int
    state: str | None
    attempts: int


class AirflowClient:
    """Client of the REST API, with a user's token.

    Raises:
        AirflowError: from every method, on no answer or an error.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20)
        self._credentials = {"username": user, "password": password}

    def health(self) -> dict[str, str]:
        """Return each component's status, such as "healthy"."""
        states = self._call("GET", "/api/v2/monitor/health")
        # The first call builds its routes, for seconds; a task would time out.
        states["execution API"] = self._call("GET", "/execution/health")
        return {part: str((states.get(part) or {}).get("status")) for part in _PARTS}

    def import_errors(self) -> list[str]:
        """Return the import errors of DAG files, as "file: end of the stack trace"."""
        errors = self._all("/api/v2/importErrors", "import_errors")
        return [f"{error['filename']}: {error['stack_trace'][-300:]}" for error in errors]

    def dags(self) -> list[str]:
        """Return the ids of the loaded DAGs."""
        return [dag["dag_id"] for dag in self._all("/api/v2/dags", "dags")]

    def pools(self) -> dict[str, int]:
        """Return each pool's number of slots."""
        pools = self._all("/api/v2/pools", "pools")
        return {pool["name"]: pool["slots"] for pool in pools}

    def ensure_pool(self, name: str, slots: int) -> None:
        """Create the pool if it does not exist."""
        if name not in self.pools():
            body = {"name": name, "slots": slots, "include_deferred": False}
            self._call("POST", "/api/v2/pools", body)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id."""
        body = {"logical_date": datetime.now(UTC).isoformat(), "conf": conf}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state: queued, running, success or failed."""
        return str(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return every task instance of a run, each mapped one separately."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return [
            TaskInstance(
                item["id"], item["task_id"], item["map_index"], item["state"], item["try_number"]
            )
            for item in self._all(path, "task_instances")
        ]

    def problem(self, dag_id: str, run_id: str, task: TaskInstance) -> str:
        """Return the error that ended a task's last attempt, from its log; "" if there is none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/"
        query = {"map_index": task.map_index, "full_content": True}
        try:
            entries = self._call("GET", f"{path}{task.attempts}", query=query)["content"]
        except AirflowError:  # the log is gone with a dead worker
            return ""
        errors = [entry.get("error_detail") for entry in entries if isinstance(entry, dict)]
        return next((str(error[0]["exc_value"]) for error in reversed(errors) if error), "")

    def _all(self, path: str, name: str) -> list[Any]:
        """Return all items of a paginated list."""
        found: list[Any] = []
        while True:
            page = self._call("GET", path, query={"limit": _PAGE, "offset": len(found)})
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def _call(
        self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None
    ) -> Any:
        try:
            if "Authorization" not in self._http.headers:
                answer = self._http.post("/auth/token", json=self._credentials)
                answer.raise_for_status()
                token = answer.json()["access_token"]
                self._http.headers["Authorization"] = f"Bearer {token}"
            answer = self._http.request(method, quote(path), json=body, params=query)
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            text = error.response.text[:300]
            raise AirflowError(
                f"{method} {path}: HTTP {error.response.status_code} {text}"
            ) from error
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise AirflowError(f"{method} {path}: {error}") from error
