"""The manifests are valid and agree with the code; without a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from infra.local import torchserve
from infra.local.airflow import POOL
from infra.local.gateway import DRAIN_SECONDS
from infra.local.ports import Ports
from moodlake import __version__
from moodlake.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "infra" / "kubernetes"
OVERLAYS = ("server", "to-zero")
OLDEST = 31
NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
NAMESPACE = "moodlake"
GIB = 1 << 30
# Measured bytes: one worker; all other processes; of these, TorchServe with a small heap.
WORKER, BESIDE, TORCHSERVE = 520e6, 600e6, 278e6
UNITS = {"Mi": 1 << 20, "Gi": GIB}


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text("utf-8")))


MANIFESTS = [
    each
    for file in sorted((FOLDER / "server").glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for each in documents(file)
]


def the(kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = (
        each
        for each in MANIFESTS
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    )
    return found


DEPLOYMENT = the("Deployment")
TEMPLATE = DEPLOYMENT["spec"]["template"]
POD = TEMPLATE["spec"]
(SERVER,) = POD["containers"]
LABELS = TEMPLATE["metadata"]["labels"]
SCALING = the("HorizontalPodAutoscaler")["spec"]
KEDA, _ = documents(FOLDER / "to-zero" / "scaling.yaml")


def workers() -> int:
    """The number of TorchServe's workers per server."""
    return int(SERVER["command"][SERVER["command"].index("--workers") + 1])


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def selected(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_each_manifest_is_valid(minor: int) -> None:
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, f"1.{minor}", strict=True)


def test_a_field_that_does_not_exist_would_be_noticed() -> None:
    wrong = {**the("Service"), "spec": {**the("Service")["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
        kubernetes_validate.validate(wrong, f"1.{NEWEST}", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_file_is_a_resource(overlay: str) -> None:
    (joined,) = documents(FOLDER / overlay / "kustomization.yaml")
    files = {file.name for file in (FOLDER / overlay).iterdir()} - {"kustomization.yaml"}
    assert set(joined["resources"]) - {"../server"} == files


def test_everything_is_in_one_restricted_namespace() -> None:
    namespace = the("Namespace")["metadata"]
    assert namespace["name"] == NAMESPACE
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each["metadata"] for each in MANIFESTS if each["kind"] != "Namespace"]
    assert {other["namespace"] for other in others} == {NAMESPACE}


def test_selectors_find_the_server() -> None:
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert selected(the(kind)["spec"]["selector"]["matchLabels"], LABELS), kind
    assert selected(the("Service")["spec"]["selector"], LABELS)
    for spread in POD["topologySpreadConstraints"]:
        assert selected(spread["labelSelector"]["matchLabels"], LABELS)
    # Without `kind`, KEDA scales a Deployment.
    for target in (SCALING["scaleTargetRef"], KEDA["spec"]["scaleTargetRef"]):
        named = {"kind": "Deployment", **target}
        assert (named["kind"], named["name"]) == (
            DEPLOYMENT["kind"],
            DEPLOYMENT["metadata"]["name"],
        )


def test_the_port_is_one_everywhere() -> None:
    (port,) = SERVER["ports"]
    assert port["containerPort"] == Ports().gateway
    assert SERVER["command"][:2] == ["moodlake", "serve"]
    assert SERVER["command"][SERVER["command"].index("--port") + 1] == str(Ports().gateway)
    (service,) = the("Service")["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (Ports().gateway, port["name"])
    (rule,) = the("NetworkPolicy", "model-server")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["name"]]


def test_probes_use_paths_of_nginx_with_enough_time() -> None:
    gate = (PROJECT_ROOT / "infra" / "nginx" / "gate.conf.j2").read_text("utf-8")
    for name in ("startupProbe", "readinessProbe"):
        probe = SERVER[name]
        assert f"location = {probe['httpGet']['path']} {{" in gate
        # The gate gives TorchServe's queue 10 s.
        assert probe["timeoutSeconds"] > 10


def test_a_busy_server_stays_alive_and_ready() -> None:
    assert SERVER["readinessProbe"]["httpGet"]["path"] == "/health"
    assert "tcpSocket" in SERVER["livenessProbe"]
    assert "httpGet" not in SERVER["livenessProbe"]


def test_a_stopping_server_finishes_accepted_requests() -> None:
    pause = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The two parts of nginx drain one after the other.
    assert POD["terminationGracePeriodSeconds"] - pause > 2 * DRAIN_SECONDS


def test_memory_suffices_for_workers_and_a_full_heap() -> None:
    resources = SERVER["resources"]
    limit = resources["limits"]["memory"]
    assert resources["requests"]["memory"] == limit
    assert "-Xmx2g " in Path(torchserve.__file__).read_text("utf-8")
    assert size(limit) > workers() * WORKER + BESIDE + 2 * GIB - TORCHSERVE
    assert int(resources["requests"]["cpu"]) == workers()


def test_the_pod_has_minimal_privileges() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert the("ServiceAccount")["automountServiceAccountToken"] is False
    assert POD["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
    context = POD["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 1000)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert SERVER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_writable_paths_and_token_are_mounted() -> None:
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in SERVER["volumeMounts"]}
    variables = {each["name"]: each["value"] for each in SERVER["env"]}
    writable = {path for path, volume in mounts.items() if "emptyDir" in volume}
    assert writable == {variables["MOODLAKE_STATE"], "/tmp"}
    keys = Path(variables["MOODLAKE_SERVER_KEYS"])
    assert mounts[str(keys.parent)]["secret"]["secretName"] == "server-keys"
    assert f"--from-file={keys.name}=" in (PROJECT_ROOT / "docs" / "kubernetes.md").read_text()


def test_some_but_never_all_servers_may_be_evicted() -> None:
    allowed = the("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert 1 <= allowed < SCALING["minReplicas"]
    rolling = DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxUnavailable"], rolling["maxSurge"]) == (0, 1)


def test_only_the_autoscaler_sets_the_number_of_servers() -> None:
    """Kubernetes' autoscaler or KEDA, not the manifest."""
    assert "replicas" not in DEPLOYMENT["spec"]
    assert KEDA["spec"]["maxReplicaCount"] == SCALING["maxReplicas"]
    (joined,) = documents(FOLDER / "to-zero" / "kustomization.yaml")
    (patch,) = [yaml.safe_load(each["patch"]) for each in joined["patches"]]
    assert patch["$patch"] == "delete"
    assert patch["kind"] == "HorizontalPodAutoscaler"
    assert patch["metadata"] == the("HorizontalPodAutoscaler")["metadata"]


def test_keda_starts_a_server_for_the_tasks_that_its_workers_can_take() -> None:
    (trigger,) = KEDA["spec"]["triggers"]
    assert trigger["metadata"]["targetQueryValue"] == str(workers())
    assert f"pool = '{POOL}'" in trigger["metadata"]["query"]


def test_every_task_that_needs_the_server_starts_one(tmp_path: Path) -> None:
    """Tasks upstream of scoring need the model, too, and must not wait forever."""
    code = """
import json, sys
sys.path.append(sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
tasks = [task for dag in DagBag(sys.argv[1]).dags.values() for task in dag.tasks]
asks = {id(each) for task in tasks if task.task_id == "score"
        for each in (task, *task.upstream_list)}
print(json.dumps([(task.task_id, task.pool, id(task) in asks) for task in tasks]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROJECT_ROOT / "dags")],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "MOODLAKE_ARRIVALS_QUEUE": "http://127.0.0.1:1/queue",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    tasks = json.loads(done.stdout.splitlines()[-1])
    assert sum(asks for *_, asks in tasks) == 6
    (trigger,) = KEDA["spec"]["triggers"]
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE task_instance (task_id TEXT, pool TEXT, state TEXT)")
        for name, pool, asks in tasks:
            for state, wanted in (("queued", asks), ("running", asks), ("success", False)):
                database.execute("DELETE FROM task_instance")
                database.execute("INSERT INTO task_instance VALUES (?, ?, ?)", (name, pool, state))
                (count,) = database.execute(trigger["metadata"]["query"]).fetchone()
                assert count == wanted, (name, state)


def test_all_traffic_is_denied_unless_allowed() -> None:
    nothing = the("NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policy = the("NetworkPolicy", "model-server")["spec"]
    assert selected(policy["podSelector"]["matchLabels"], LABELS)
    # Policies are additive: one of type Egress would allow traffic.
    assert policy["policyTypes"] == ["Ingress"]
    (inward,) = policy["ingress"]
    for peer in inward["from"]:
        assert peer["podSelector"]["matchLabels"], "any pod may call the server"


def test_clients_may_reach_the_server_and_dns_only() -> None:
    (callers, _) = the("NetworkPolicy", "model-server")["spec"]["ingress"][0]["from"]
    policy = the("NetworkPolicy", "callers")["spec"]
    assert policy["podSelector"] == callers["podSelector"]
    assert policy["policyTypes"] == ["Egress"]
    server, names = policy["egress"]
    assert "to" not in names  # some clusters answer on each node, others in kube-system
    assert selected(server["to"][0]["podSelector"]["matchLabels"], LABELS)
    assert server["ports"] == the("NetworkPolicy", "model-server")["spec"]["ingress"][0]["ports"]
    assert {(each["protocol"], each["port"]) for each in names["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }


def test_images_are_those_of_this_version() -> None:
    assert SERVER["image"] == f"moodlake-server:{__version__}"
