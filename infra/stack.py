"""The local stack: start all services, wait until they are ready, stop them without remains."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.celery.airflow import CeleryAirflow
from infra.local.airflow import AirflowService
from infra.local.gateway import GatewayService
from infra.local.ports import HOST, ClusterPorts, Ports, read_ports
from infra.local.process import ProcessId, terminate
from infra.local.s3 import S3Service
from infra.local.service import NotReady, Service, Startable, write_secret
from infra.local.torchserve import TorchServeService
from infra.local.versions import Version, Versions
from infra.local.web_app import WebAppService
from moodlake.inference.bundle import read_meta
from moodlake.local_stack import STATE_FILE, StackError, point_here, read_state
from moodlake.settings import PROJECT_ROOT, RELEASED_ARCHIVE, Settings

_STOP_TIMEOUT = 200.0


@dataclass(frozen=True)
class ServiceStatus:
    """The current state of a service."""

    name: str
    url: str
    log: str
    ready: bool
    detail: str


class Stack(Startable):
    """S3, TorchServe, nginx and Airflow on the loopback address, as a context manager.

    Args:
        state: folder for all files, logs and secrets.
        ports: where the services listen; with ClusterPorts, Airflow's tasks run in Celery workers.
        archive: the model to serve.
        dags: folder of DAG files.
        workers: number of Celery workers.
        web_app: whether to run the web app, too.
    """

    def __init__(
        self,
        state: Path,
        ports: Ports,
        archive: Path = RELEASED_ARCHIVE,
        dags: Path = PROJECT_ROOT / "dags",
        workers: int = 2,
        web_app: bool = False,
    ) -> None:
        self.state = state.absolute()
        self.ports = ports
        self.workers = workers
        self._archive = archive.absolute()
        defaults = Settings()
        results_bucket = defaults.results_uri.removeprefix("s3://")
        self.s3 = S3Service(self.state / "s3", ports, (defaults.images_bucket, results_bucket))
        self.torchserve = TorchServeService(self.state / "torchserve", ports, self._archive)
        self.gateway = GatewayService(
            self.state / GatewayService.FOLDER, ports, self._archive, self.torchserve.keys
        )
        self.settings = Settings(
            server_url=self.gateway.url,
            server_keys=self.gateway.keys,
            airflow_url=f"http://{HOST}:{ports.airflow}",
        )
        folder, environment = self.state / "airflow", self.environment()
        if isinstance(ports, ClusterPorts):
            self.airflow: AirflowService = CeleryAirflow(folder, ports, dags, environment, workers)
        else:
            self.airflow = AirflowService(folder, ports, dags, environment)
        self.web_app = (
            WebAppService(self.state / "page", ports.page, environment) if web_app else None
        )

    @property
    def services(self) -> tuple[Service, ...]:
        """All services, in the order in which they start."""
        first = (*self.airflow.needs, self.s3, self.torchserve, self.airflow, self.gateway)
        return (*first, self.web_app) if self.web_app else first

    def environment(self) -> dict[str, str]:
        """Return the variables that point a client or a task at this stack."""
        return {**self.s3.environment(), **self.settings.to_environment()}

    def point_here(self) -> None:
        """Point this process and its children at this stack, and at no other S3."""
        point_here(self.environment())

    def start(self, announce: Callable[[str], None] = lambda text: None) -> None:
        """Start all services and wait until each of them works.

        Args:
            announce: receives a line for each service that is ready.

        Raises:
            StackError, BundleError: see `check`; or a service did not start. Nothing is left
                running.
        """
        self.check()
        for service in self.services:  # before stack.json leads other commands to them
            service.save_secrets()
        try:
            for service in self.services:
                service.start()
                self._write_state()
            for service in self.services:
                announce(f"{service.name} at {service.url}: {service.wait()}")
        except NotReady as error:
            self.stop()
            raise StackError(str(error)) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process that this object started, and no process of another command."""
        if marks := self._marks():
            self.gateway.drain()
            terminate(marks)
            for service in self.services:
                service.stop()
            (self.state / STATE_FILE).unlink(missing_ok=True)

    def _marks(self) -> list[str]:
        return [child.mark for service in self.services for child in service.children.values()]

    def status(self) -> list[ServiceStatus]:
        """Check every service."""
        return [_status(service) for service in self.services]

    def use_version(self, version: str) -> Version:
        """Make a loaded version the default; see Versions.use."""
        used = self.versions.use(version)
        record = read_state(self.state) or {}
        write_secret(self.state / STATE_FILE, record | {"archive": str(used.archive)})
        return used

    @property
    def versions(self) -> Versions:
        """The versions of the model in TorchServe."""
        return Versions(self.torchserve, self.gateway)

    def check(self) -> None:
        """Check that the stack can start; writes nothing.

        Raises:
            BundleError: the archive is absent or damaged.
            StackError: a port is taken, or a stack already runs from the state folder.
        """
        read_meta(self._archive)
        ensure_stopped(self.state)
        busy = self.ports.busy()
        if self.web_app is None:
            busy.pop("page", None)
        if busy:
            listed = ", ".join(f"{port} ({name})" for name, port in busy.items())
            raise StackError(
                f"in use by another program: port {listed}; stop it, or choose other ports with "
                "`moodlake up --free-ports`"
            )

    def _write_state(self) -> None:
        me = psutil.Process()
        record = {
            "supervisor": asdict(ProcessId(me.pid, me.create_time())),
            "children": self._marks(),
            "ports": asdict(self.ports),
            "workers": self.workers,
            "page": self.web_app is not None,
            "archive": str(self._archive),
            "environment": self.environment(),
        }
        write_secret(self.state / STATE_FILE, record)


def ensure_stopped(state: Path) -> None:
    """Check that no stack runs from `state`; end processes that a killed supervisor left behind.

    Raises:
        StackError: one is running.
    """
    record = read_state(state)
    if record is None:
        return
    if _supervisor(record).find():
        raise StackError(f"a stack already runs from {state}; `moodlake down` stops it")
    terminate(record["children"])


def attach(state: Path) -> Stack:
    """Return the stack that another command started from `state`.

    Raises:
        StackError: none is running there.
    """
    record = read_state(state)
    if record is None or _supervisor(record).find() is None:
        raise StackError("no local stack is running; start one with `moodlake up`")
    return Stack(
        state,
        read_ports(record["ports"]),
        Path(record["archive"]),
        workers=record["workers"],
        web_app=record["page"],
    )


def take_down(state: Path) -> None:
    """Stop the stack that another command started, and wait until it is gone.

    Raises:
        StackError: none is running there, or it does not stop.
    """
    record = read_state(state)
    if record is None:
        raise StackError("no local stack is running")
    supervisor = _supervisor(record).find()
    if supervisor is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor.terminate()
            try:
                supervisor.wait(_STOP_TIMEOUT)
            except psutil.TimeoutExpired as error:
                raise StackError(f"process {supervisor.pid} does not stop; kill it") from error
    terminate(record["children"])
    (state / STATE_FILE).unlink(missing_ok=True)


def _supervisor(record: dict[str, Any]) -> ProcessId:
    return ProcessId(**record["supervisor"])


def _status(service: Service) -> ServiceStatus:
    logs = os.path.relpath(service.folder / "logs", Path.cwd())
    try:
        return ServiceStatus(service.name, service.url, logs, True, service.check())
    except NotReady as error:
        return ServiceStatus(service.name, service.url, logs, False, str(error))
