"""Ports, child processes and the local S3 server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from infra.local.ports import HOST, ClusterPorts, Ports, read_ports
from infra.local.process import Child, terminate
from infra.local.s3 import S3Service
from infra.stack import Stack, StackError, attach
from moodlake.cli import app
from moodlake.errors import UserError

FAMILY = "import subprocess, sys, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"


def test_free_ports_are_distinct() -> None:
    ports = [port for _ in range(3) for port in asdict(ClusterPorts.free()).values()]
    assert len(set(ports)) == len(ports)


def test_free_ports_of_another_process_are_distinct() -> None:
    code = "from infra.local.ports import Ports; print(Ports.free()); input()"
    taken = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with taken, pytest.MonkeyPatch.context() as patch:
        assert taken.stdout
        first = int(re.findall(r"s3=(\d+)", taken.stdout.readline())[0])
        patch.setattr("infra.local.ports._FREE_RANGE", (first, first + 1))
        with pytest.raises(UserError, match="no free ports"):
            Ports.free()
        taken.communicate("\n")


@pytest.mark.parametrize("ports", [Ports(), ClusterPorts(redis=1)])
def test_ports_are_read_from_new_and_old_stack_files(ports: Ports) -> None:
    recorded = asdict(ports)
    assert read_ports(recorded) == ports
    recorded["front"] = recorded.pop("gateway")
    assert read_ports(recorded) == ports


def test_a_port_in_use_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        stack = Stack(tmp_path, replace(Ports.free(), inference=number))
        with pytest.raises(StackError, match=rf"{number} \(inference\)"):
            stack.start()
    assert not any(service.children for service in stack.services)


def test_a_missing_stack_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="moodlake up"):
        attach(tmp_path)


def wait_for_family(pid: int) -> list[psutil.Process]:
    for _ in range(600):
        if children := psutil.Process(pid).children(recursive=True):
            return [psutil.Process(pid), *children]
        time.sleep(0.05)
    raise AssertionError("no child appeared")


def gone(family: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(family, timeout=60)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def start(code: str, folder: Path) -> Child:
    return Child([sys.executable, "-c", code], log=folder / "log", cwd=folder, env=os.environ)


def test_terminate_ends_grandchildren(tmp_path: Path) -> None:
    child = start(FAMILY, tmp_path)
    family = wait_for_family(child.pid)
    terminate([child.mark])
    assert gone(family)


def test_terminate_finds_what_a_dead_child_left_behind(tmp_path: Path) -> None:
    child = start(FAMILY, tmp_path)
    family = wait_for_family(child.pid)
    family[0].kill()
    terminate([child.mark])
    assert gone(family)


def test_a_process_that_renames_itself_is_found(tmp_path: Path) -> None:
    rename = "import setproctitle, time; setproctitle.setproctitle('t' * 2000); time.sleep(300)"
    child = start(rename, tmp_path)
    process = psutil.Process(child.pid)
    for _ in range(600):
        if "tttt" in " ".join(process.cmdline()):
            break
        time.sleep(0.05)
    terminate([child.mark])
    assert gone([process])


def test_an_unrelated_process_with_a_reused_group_id_is_left_alone(tmp_path: Path) -> None:
    """A child without our environment stands for the later owner of its dead parent's group id."""
    clean = "import subprocess; subprocess.Popen(['sleep', '300'], env={}).wait()"
    child = start(clean, tmp_path)
    leader, stranger = wait_for_family(child.pid)
    leader.kill()
    try:
        terminate([child.mark], grace=1)
        assert os.getpgid(stranger.pid) == child.pid
        assert stranger.is_running()
    finally:
        stranger.kill()


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    """Not even the children of its children."""
    code = (
        "import os, sys, time; from pathlib import Path; from infra.local.process import Child;"
        f"here = Path({str(tmp_path)!r});"
        f"Child([sys.executable, '-c', {FAMILY!r}], log=here / 'log', cwd=here, env=os.environ);"
        "print(flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout
        supervisor.stdout.readline()
        while len(family := psutil.Process(supervisor.pid).children(recursive=True)) < 3:
            time.sleep(0.05)  # the guard, the child and the grandchild
        supervisor.send_signal(signal.SIGKILL)
    assert gone(family)


def test_a_child_that_overwrites_its_environment_is_found(tmp_path: Path) -> None:
    """As nginx does; its parent has the mark."""
    code = (
        "import subprocess, time; subprocess.Popen(['env', '-i', 'sleep', '300']); time.sleep(300)"
    )
    child = start(code, tmp_path)
    family = wait_for_family(child.pid)
    terminate([child.mark])
    assert gone(family)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_up_checks_the_archive_before_it_prints_or_writes(tmp_path: Path, workers: str) -> None:
    state, absent = tmp_path / "state", tmp_path / "absent.mar"
    command = ["up", "--model", str(absent), "--free-ports", "--state", str(state)]
    done = CliRunner().invoke(app, [*command, "--workers", workers])
    assert done.exit_code == 1
    assert done.output == f"error: {absent} does not exist; check the path\n"
    assert not state.exists()


def test_a_secret_is_written_at_the_start_and_kept(tmp_path: Path) -> None:
    service = S3Service(tmp_path / "s3", Ports.free(), ())
    assert not service.folder.exists()
    service.save_secrets()
    assert (
        S3Service(service.folder, Ports.free(), ()).environment()
        | {"AWS_ENDPOINT_URL": service.url}
        == service.environment()
    )


def test_s3_rejects_a_wrong_secret(tmp_path: Path) -> None:
    service = S3Service(tmp_path, Ports.free(), ("images",))
    try:
        service.start()
        service.wait()
        client = boto3.client(
            "s3",
            endpoint_url=service.url,
            aws_access_key_id="moodlake",
            aws_secret_access_key="wrong",
            region_name="us-east-1",
        )
        with pytest.raises(ClientError):
            client.list_objects_v2(Bucket="images")
    finally:
        service.stop()
