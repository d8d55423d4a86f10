"""The values of Airflow's Helm chart agree with the code, compose.yaml and the manifests."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery

from infra.celery.airflow import CeleryAirflow
from infra.local.airflow import POOL
from infra.local.ports import ClusterPorts
from moodlake import __version__
from moodlake.settings import PROJECT_ROOT, Settings
from tests.infra.test_kubernetes import FOLDER, NAMESPACE, SCALING, the, workers

VALUES = yaml.safe_load((FOLDER / "airflow-values.yaml").read_text("utf-8"))
COMPOSE = yaml.safe_load((PROJECT_ROOT / "infra" / "compose.yaml").read_text("utf-8"))
PAGE = (PROJECT_ROOT / "docs" / "kubernetes.md").read_text("utf-8")
# The chart sets these from the secrets that the values name.
OF_THE_CHART = {
    *("AIRFLOW__CORE__EXECUTOR", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
    *("AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND"),
    *("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC",
}
# Settings that differ: parallelism by the number of servers, addresses, and what the chart lacks.
OWN = {
    *("AIRFLOW__CORE__PARALLELISM", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"),
    *("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"),
}


def settings() -> dict[str, str]:
    """Return Airflow's settings as environment variables."""
    return {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, values in VALUES["config"].items()
        for name, value in values.items()
    }


def variables() -> dict[str, str]:
    return {each["name"]: each["value"] for each in VALUES["env"]}


def composed() -> dict[str, Any]:
    environment: dict[str, Any] = COMPOSE["services"]["worker"]["environment"]
    return environment


def test_airflow_is_set_as_compose_sets_it() -> None:
    names = {name for name in composed() if name.startswith("AIRFLOW__")}
    assert names - settings().keys() == OF_THE_CHART
    same = names & settings().keys() - OWN
    assert len(same) > 8
    assert {name: settings()[name] for name in same} == {name: composed()[name] for name in same}
    assert VALUES["executor"] == composed()["AIRFLOW__CORE__EXECUTOR"]
    assert variables()["GX_ANALYTICS_ENABLED"] == composed()["GX_ANALYTICS_ENABLED"]


def test_airflow_is_set_as_the_code_sets_it(tmp_path: Path) -> None:
    replicas = VALUES["workers"]["replicas"]
    airflow = CeleryAirflow(tmp_path, ClusterPorts(), PROJECT_ROOT / "dags", {}, replicas)
    code = airflow.environment()
    for name in settings().keys() & code.keys() - OWN | {"AIRFLOW__CORE__PARALLELISM"}:
        assert settings()[name] == code[name], name


def test_slots_of_the_pool_are_the_workers_of_all_servers() -> None:
    slots = SCALING["maxReplicas"] * workers()
    assert f"airflow pools set {POOL} {slots} " in VALUES["migrateDatabaseJob"]["args"][-1]
    # Airflow's workers can use every slot.
    concurrency = int(settings()["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    assert VALUES["workers"]["replicas"] * concurrency == slots


def test_tasks_find_the_model_server_and_may_call_it() -> None:
    service = the("Service")
    (port,) = service["spec"]["ports"]
    address = f"http://{service['metadata']['name']}.{NAMESPACE}:{port['port']}"
    assert variables()["MOODLAKE_SERVER_URL"] == address
    labels = VALUES["workers"]["labels"]
    (rule,) = the("NetworkPolicy", "model-server")["spec"]["ingress"]
    for peer in rule["from"]:
        assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    spaces = [peer["namespaceSelector"] for peer in rule["from"] if "namespaceSelector" in peer]
    assert [space["matchLabels"]["kubernetes.io/metadata.name"] for space in spaces] == ["airflow"]
    assert "--namespace airflow" in PAGE


def test_tasks_wait_as_long_as_a_server_may_take_to_start() -> None:
    (server,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    probe = server["startupProbe"]
    starting = probe["periodSeconds"] * probe["failureThreshold"]
    assert Settings.from_environment(variables()).server_wait > starting


def test_tasks_find_the_servers_token() -> None:
    (mount,) = VALUES["workers"]["extraVolumeMounts"]
    (volume,) = VALUES["workers"]["extraVolumes"]
    assert mount["name"] == volume["name"]
    keys = Path(variables()["MOODLAKE_SERVER_KEYS"])
    assert str(keys.parent) == mount["mountPath"]
    (pod,) = [each["spec"]["template"]["spec"] for each in [the("Deployment")]]
    secrets = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
    assert [volume["secret"]["secretName"]] == secrets


@pytest.mark.parametrize("kind", ["configMapRef", "secretRef"])
def test_the_docs_create_the_secrets_and_config_maps_of_the_values(kind: str) -> None:
    named = [each[kind]["name"] for each in yaml.safe_load(VALUES["extraEnvFrom"]) if kind in each]
    if kind == "secretRef":
        named += [VALUES["data"]["metadataSecretName"], VALUES["secret"][0]["secretName"]]
        named += [VALUES["apiSecretKeySecretName"], VALUES["jwtSecretName"]]
    noun = "configmap" if kind == "configMapRef" else "secret generic"
    for name in named:
        assert f"create {noun} {name} " in PAGE, name


def test_versions_are_those_of_the_project() -> None:
    assert VALUES["images"]["airflow"] == {"repository": "moodlake-airflow", "tag": __version__}
    constraints = (PROJECT_ROOT / "constraints.txt").read_text("utf-8")
    pinned = re.search(r"^apache-airflow==(.+)$", constraints, re.MULTILINE)
    assert pinned
    assert VALUES["airflowVersion"] == pinned[1]


PARTS = ("scheduler", "dagProcessor", "triggerer", "workers")
PROBES = [
    (part, probe)
    for part in PARTS
    for probe in ("livenessProbe", "startupProbe")
    if probe in VALUES[part]
]


@pytest.mark.parametrize("part", PARTS)
def test_nothing_needs_scripts_of_the_official_image(part: str) -> None:
    assert VALUES[part]["logGroomerSidecar"] == {"enabled": False}
    assert VALUES[part]["livenessProbe"]["command"]


@pytest.mark.parametrize(("part", "probe"), PROBES)
def test_probes_are_commands_that_airflow_and_celery_know(part: str, probe: str) -> None:
    from airflow.cli.cli_parser import get_parser  # takes seconds: not while collecting tests

    command = VALUES[part][probe]["command"]
    if part != "workers":
        assert command[0] == "airflow"
        asked = get_parser().parse_args(command[1:])
        assert asked.local
        return
    *_, script = command
    application = re.search(r"--app (\S+)", script)
    assert application
    module, _, name = application[1].rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), Celery)
