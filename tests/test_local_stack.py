"""Finding the local stack: records of earlier versions, and stacks that are gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from moodlake.local_stack import StackError, environment_of
from moodlake.settings import Settings

PORTS = {"s3": 9001, "front": 9002, "airflow": 9003, "page": 9004}


def write_record(state: Path, pid: int, **fields: Any) -> None:
    """Write stack.json as a supervisor of this process id does."""
    created = psutil.Process(pid).create_time()
    record = {"supervisor": {"pid": pid, "created": created}, "children": [], "ports": PORTS}
    (state / "stack.json").write_text(json.dumps(record | fields), "utf-8")


def test_a_record_without_environment_gives_the_addresses_by_its_ports(tmp_path: Path) -> None:
    """The file as `moodlake up` wrote it before it stored the environment."""
    write_record(tmp_path, psutil.Process().pid, workers=None, page=True, archive="emotions.mar")
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "secret.json").write_text(json.dumps("s3-secret"), "utf-8")

    environment = environment_of(tmp_path)

    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9001"
    assert environment["AWS_ACCESS_KEY_ID"] == "moodlake"
    assert environment["AWS_SECRET_ACCESS_KEY"] == "s3-secret"
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == "us-east-1"
    assert Settings.from_environment(environment) == Settings(
        server_url="http://127.0.0.1:9002",
        server_keys=tmp_path / "front" / "key_file.json",
        airflow_url="http://127.0.0.1:9003",
    )


def test_a_recorded_environment_is_returned_unchanged(tmp_path: Path) -> None:
    recorded = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9001", "MOODLAKE_SERVER_URL": "http://server"}
    write_record(tmp_path, psutil.Process().pid, environment=recorded)
    assert environment_of(tmp_path) == recorded


def test_a_stack_whose_supervisor_is_gone_is_not_running(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as supervisor:
        write_record(tmp_path, supervisor.pid, environment={})
    with pytest.raises(StackError, match="no local stack is running; start one with `moodlake up`"):
        environment_of(tmp_path)


def test_a_process_that_reuses_the_supervisors_id_is_not_the_stack(tmp_path: Path) -> None:
    me = psutil.Process()
    write_record(tmp_path, me.pid, supervisor={"pid": me.pid, "created": me.create_time() - 60})
    with pytest.raises(StackError, match="start one with `moodlake up`"):
        environment_of(tmp_path)


def test_a_folder_without_record_has_no_stack(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="start one with `moodlake up`"):
        environment_of(tmp_path)
