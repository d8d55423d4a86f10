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
    by_code = airflow.environment()
    assert told.keys() <= by_code.keys()
    executor = {f"AIRFLOW__{name}": str(value) for name, value in airflow.executor().items()}
    assert executor.keys() <= told.keys()
    addresses = {name for name, value in executor.items() if "://" in value}
    assert {name: told[name] for name in executor.keys() - addresses} == {
        name: executor[name] for name in executor.keys() - addresses
    }
    for name in addresses:
        assert told[name].split("://")[0] == executor[name].split("://")[0]


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
    assert environment("worker")["AIRFLOW__CORE__DAGS_FOLDER"] == f"{folder[1]}/dags"
