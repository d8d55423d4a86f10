"""The command `moodlake app`: start, stop, and a port in use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from infra.local.ports import HOST, Ports
from infra.local.service import BIN

pytestmark = pytest.mark.e2e


@contextmanager
def command(state: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MOODLAKE_")
    }
    process = subprocess.Popen(
        [BIN / "moodlake", "app", "--port", str(port), "--state", state],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/_stcore/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_web_app_stops_with_its_command(tmp_path: Path, number: signal.Signals) -> None:
    port = Ports.free().page
    with command(tmp_path, port) as process:
        assert process.stdout
        assert f"The web app is at http://{HOST}:{port}" in process.stdout.readline()
        assert answers(port)
        pages = psutil.Process(process.pid).children(recursive=True)
        listening = {
            connection.laddr.ip
            for page in pages
            for connection in page.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {HOST}
        process.send_signal(number)
        assert process.wait(120) == (130 if number == signal.SIGINT else 0)
        assert not answers(port)


def test_the_web_app_stops_after_its_command_was_killed(tmp_path: Path) -> None:
    port = Ports.free().page
    with command(tmp_path, port) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
        deadline = time.monotonic() + 120
        while answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with command(tmp_path, port) as process:
            output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert f"port {port} is in use; --port chooses another" in output
