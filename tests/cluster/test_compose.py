"""compose.yaml and Dockerfile say the same as the code: no engine for containers is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from infra.cluster.airflow import CeleryAirflow
from infra.local.airflow import POOL, POOL_SLOTS
from infra.local.ports import ClusterPorts
from infra.local.s3 import S3Service
from moodlake.settings import PROJECT_ROOT, Settings

COMPOSE = yaml.safe_load((PROJECT_ROOT / "infra" / "compose.yaml").read_text("utf-8"))
DOCKERFILE = (PROJECT_ROOT / "infra" / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))
AIRFLOW = ("prepare", "api-server", "scheduler", "dag-processor", "triggerer", "worker")
OTHERS = COMPOSE["services"].keys() - set(AIRFLOW)
# Addresses, folders and secrets are others in containers; what suits a quick start on one machine
# is left to Airflow there.
OWN = {
    *("CORE__DAGS_FOLDER", "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"),
    *("CORE__EXECUTION_API_SERVER_URL", "API__SECRET_KEY", "API_AUTH__JWT_SECRET"),
    *("DATABASE__SQL_ALCHEMY_CONN", "DATABASE__SQL_ALCHEMY_CONN_ASYNC"),
    *("CELERY__BROKER_URL", "CELERY__RESULT_BACKEND"),
}
LEFT_OUT = {
    *("API__HOST", "API__PORT", "API__BASE_URL", "API__WORKERS"),
    *("DAG_PROCESSOR__REFRESH_INTERVAL", "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"),
    "SCHEDULER__ENABLE_HEALTH_CHECK",
}


@pytest.fixture
def airflow(tmp_path: Path) -> CeleryAirflow:
    workers = COMPOSE["services"]["worker"]["deploy"]["replicas"]
    return CeleryAirflow(tmp_path, ClusterPorts(), PROJECT_ROOT / "dags", {}, workers)


def environment(service: str) -> dict[str, Any]:
    return COMPOSE["services"][service]["environment"]


def test_each_part_of_airflow_is_told_the_same() -> None:
    assert all(environment(part) == environment("worker") for part in AIRFLOW)


def test_airflow_is_set_as_the_code_sets_it(airflow: CeleryAirflow) -> None:
    told = {name: value for name, value in environment("worker").items() if "AIRFLOW__" in name}
    code = {name: value for name, value in airflow.environment().items() if "AIRFLOW__" in name}
    own = {f"AIRFLOW__{name}" for name in OWN}
    assert code.keys() - told.keys() == {f"AIRFLOW__{name}" for name in LEFT_OUT}
    assert {name: told[name] for name in told.keys() - own} == {
        name: code[name] for name in told.keys() - own
    }
    for name in airflow.executor().keys() & OWN:
        ours, theirs = (values[f"AIRFLOW__{name}"] for values in (told, code))
        assert ours.split("://")[0] == theirs.split("://")[0]


def test_tasks_find_s3_and_the_model_server(tmp_path: Path) -> None:
    settings = Settings(server_keys=tmp_path, arrivals_queue="https://queue").to_environment()
    s3 = S3Service(tmp_path, ClusterPorts(), ()).environment()
    assert {*settings, *s3} <= environment("worker").keys()


def test_the_pool_is_the_one_of_the_dag() -> None:
    script = COMPOSE["services"]["prepare"]["command"][-1]
    assert f"airflow pools set {POOL} {POOL_SLOTS} " in script


def test_images_are_pinned() -> None:
    images = [service["image"] for name, service in COMPOSE["services"].items() if name in OTHERS]
    base = re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert all(re.search(r":\d+\.\d+", image) for image in [*images, *base])
    python = re.search(r"^FROM python:([\d.]+)", DOCKERFILE, re.MULTILINE)
    assert python
    assert python[1] in SpecifierSet(PROJECT["project"]["requires-python"])


def test_the_image_holds_what_is_installed_and_the_dags() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    packages = PROJECT["tool"]["setuptools"]["packages"]
    assert copied == {name.split(".")[0] for name in packages} | {"dags"}
    assert "-c constraints.txt" in DOCKERFILE
    folder = re.search(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    assert folder
    for name in ("params.yaml", "dvc.lock"):  # which runs read
        assert re.search(rf"^COPY .*\b{name}\b.* \./$", DOCKERFILE, re.MULTILINE)
    assert environment("worker")["AIRFLOW__CORE__DAGS_FOLDER"] == f"{folder[1]}/dags"


def test_only_what_the_image_needs_is_sent_to_the_engine_and_no_secret() -> None:
    ignored = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = set(" ".join(re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)).split())
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert "**/.env" in ignored[ignored.index("!infra") :]
