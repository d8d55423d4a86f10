"""The command `moodlake serve`: how a container starts and stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from infra.local.cores import usable_cores
from infra.local.ports import HOST, Ports
from infra.local.service import BIN
from tests.bundles import write_archive
from tests.images_made import jpeg
from tests.polling import until
from tests.serving.test_server import PATH
from tests.serving.test_stops import callers, self_signed

pytestmark = pytest.mark.e2e

TOKEN = "all.of+what~a_token/may-have=="


@pytest.fixture
def port() -> int:
    return Ports.free().gateway


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "tiny.mar")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps({"inference": {"key": TOKEN}}), "utf-8")
    return path


def start(
    state: Path, archive: Path, port: int, *options: str | Path, keys: Path | None = None
) -> subprocess.Popen[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MOODLAKE_")
    }
    if keys:
        environment["MOODLAKE_SERVER_KEYS"] = str(keys)
    environment["MOODLAKE_STATE"] = str(state)
    return subprocess.Popen(
        [BIN / "moodlake", "serve", "--port", str(port), "--model", archive, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def served(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run the command, and wait until its server is ready."""
    process = start(*arguments, **options)  # type: ignore[arg-type]
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "The model server is at " in line, line + process.stdout.read()
        yield process
    finally:
        process.kill()
        process.wait()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_sigterm_lets_accepted_requests_finish(
    tmp_path: Path, archive: Path, port: int, keys: Path
) -> None:
    url = f"http://{HOST}:{port}"
    large = [(str(index), jpeg(index, 2_000, 1_500)) for index in range(100)]

    def ask(token: str, files: list[tuple[str, bytes]]) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{url}{PATH}", files=files, headers=headers, timeout=180).status_code

    with served(tmp_path / "state", archive, port, "--workers", "1", keys=keys) as process:
        assert httpx.get(f"{url}/ready").status_code == 200
        assert ask(TOKEN, large[:1]) == 200
        for wrong in (TOKEN.upper(), TOKEN.replace(".", "x"), TOKEN[:-1], TOKEN + "x"):
            assert ask(wrong, large[:1]) == 401
        started = family(process)
        holding = [each for each in started if "model_service_worker" in " ".join(each.cmdline())]
        assert len(holding) == 1
        listening = next(
            each
            for each in started
            if each.name() == "nginx" and each.children() and f":{port}" in _edge(each)
        )
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, TOKEN, large)
            until(lambda: callers(listening, port), "the request was not accepted")
            time.sleep(0.3)  # until nginx has read the head of the request
            process.send_signal(signal.SIGTERM)
            assert asked.result() == 200
        assert process.wait(300) == 0
        _, alive = psutil.wait_procs(started, timeout=60)
        assert alive == []


def _edge(nginx: psutil.Process) -> str:
    """Return the ports that this nginx listens on."""
    found = nginx.net_connections("tcp")
    return " ".join(f":{each.laddr.port}" for each in found if each.status == psutil.CONN_LISTEN)


@pytest.mark.parametrize("part", ["java", "nginx"])
def test_the_command_rejects_a_second_server_and_fails_when_a_part_dies(
    tmp_path: Path, archive: Path, port: int, part: str
) -> None:
    chain, key = self_signed(tmp_path)
    options = ("--workers", "1", "--certificate", chain, "--key", key)
    with served(tmp_path / "state", archive, port, *options) as process:
        trusting = ssl.create_default_context(cafile=str(chain))
        assert httpx.get(f"https://{HOST}:{port}/ready", verify=trusting).status_code == 200
        started = family(process)
        second = start(tmp_path / "state", archive, Ports.free().gateway)
        output, _ = second.communicate(timeout=180)
        assert second.returncode == 1
        assert f"another model server is running in {tmp_path / 'state'}" in output
        next(each for each in started if each.name() == part and each.children()).kill()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "is gone" in output
        _, alive = psutil.wait_procs(started, timeout=60)
        assert alive == []


def test_a_port_in_use_is_an_error(tmp_path: Path, archive: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(tmp_path, archive, port)
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert f"port {port} is in use; --port chooses another" in output


@pytest.mark.parametrize(
    ("options", "key", "words"),
    [
        (("--model", "absent.mar"), TOKEN, "absent.mar does not exist; check the path"),
        (("--host", "192.0.2.1"), TOKEN, "cannot listen on 192.0.2.1, port"),
        (("--certificate", "chain.pem"), TOKEN, "--certificate and --key must be given together"),
        ((), 'x" evil;', "the server's token contains characters that a header cannot hold"),
        ((), "", "its key is '', but must be a non-empty string"),
        ((), None, "cannot read the server's token from"),
    ],
)
def test_invalid_arguments_are_errors(
    tmp_path: Path,
    archive: Path,
    port: int,
    options: tuple[str, ...],
    key: str | None,
    words: str,
) -> None:
    keys = tmp_path / "key_file.json"
    if key is not None:
        keys.write_text(json.dumps({"inference": {"key": key}}), "utf-8")
    process = start(tmp_path / "state", archive, port, *options, keys=keys)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert words in output
    assert not (tmp_path / "state").exists()


def test_usable_cores_follow_the_containers_limit(tmp_path: Path) -> None:
    seen = usable_cores(tmp_path)
    assert seen == len(os.sched_getaffinity(0))
    limit = tmp_path / "cpu.max"
    for text, cores in (
        ("max 100000", seen),
        ("100000 100000", 1),
        ("50000 100000", 1),
        (f"{(seen + 1) * 100000} 100000", seen),
    ):
        limit.write_text(f"{text}\n")
        assert usable_cores(tmp_path) == cores
    limit.unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, cores in (("-1", seen), ("150000", 1)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert usable_cores(tmp_path) == cores
