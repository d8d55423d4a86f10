"""Find the local stack that `moodlake up` started, by the stack.json in its state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodlake.errors import UserError
from moodlake.settings import Settings

STATE_FILE = "stack.json"
_HOST = "127.0.0.1"


class StackError(UserError):
    """A stack cannot be started or found; the message says what to do."""


def read_state(state: Path) -> dict[str, Any] | None:
    """Return the content of stack.json in the folder `state`; None if there is no such file."""
    try:
        content: dict[str, Any] = json.loads((state / STATE_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return content


def environment_of(state: Path) -> dict[str, str]:
    """Return the environment variables of clients of the stack that runs from `state`.

    Raises:
        StackError: no stack runs there.
    """
    record = read_state(state)
    if record is None or not _runs(record["supervisor"]):
        raise StackError("no local stack is running; start one with `moodlake up`")
    return record.get("environment") or _environment_by_ports(state.absolute(), record["ports"])


def point_here(environment: Mapping[str, str]) -> None:
    """Set these variables for this process and its children, and unset all others of AWS."""
    kept = without_aws(os.environ)
    os.environ.clear()
    os.environ.update({**kept, **environment})


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that do not configure AWS clients."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def _runs(supervisor: Mapping[str, Any]) -> bool:
    # psutil is installed only where a stack can run.
    import psutil

    try:
        process = psutil.Process(supervisor["pid"])
        same = abs(process.create_time() - supervisor["created"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment_by_ports(state: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the environment of a stack whose stack.json has no field `environment`."""
    settings = Settings(
        server_url=f"http://{_HOST}:{ports['front']}",
        server_keys=state / "front" / "key_file.json",
        airflow_url=f"http://{_HOST}:{ports['airflow']}",
    )
    secret = json.loads((state / "s3" / "secret.json").read_text("utf-8"))
    return {
        "AWS_ENDPOINT_URL": f"http://{_HOST}:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": "moodlake",
        "AWS_SECRET_ACCESS_KEY": str(secret),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        **settings.to_environment(),
    }
