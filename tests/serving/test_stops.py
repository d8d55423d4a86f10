"""Kills, stops and restarts of the model server while it is in use."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.local.gateway import Certificate, GatewayService
from infra.local.ports import HOST
from infra.local.server import ModelServer
from moodlake.inference.model import Model
from moodlake.serving.client import ServerClient
from tests.images_made import jpeg
from tests.polling import until
from tests.serving.test_server import PATH, in_process, predictions

RETRYABLE = {429, 500, 503, 504}
BATCH = [jpeg(index, 640, 480) for index in range(16)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_worker_costs_no_image(own: ModelServer, count: int) -> None:
    """Every request is answered or retryable, and the client's retries score all images."""
    client = ServerClient(own.gateway.url, own.gateway.keys, attempts=12)
    expected = Model.load(own.archive).score(BATCH)
    codes: Counter[int] = Counter()
    over = threading.Event()

    def ask_without_retries() -> None:
        with own.http() as http:
            while not over.is_set():
                files = [(str(index), data) for index, data in enumerate(BATCH)]
                codes[http.post(PATH, files=files).status_code] += 1

    with ThreadPoolExecutor(12) as pool:
        asking = [pool.submit(ask_without_retries) for _ in range(4)]
        scoring = [pool.submit(client.score, BATCH) for _ in range(150)]
        until(lambda: codes[200], "no request was answered")
        for worker in own.workers()[:count]:
            worker.kill()
        try:
            own.torchserve.wait()
            assert all(future.result() == expected for future in scoring)
        finally:
            over.set()
        for future in asking:
            future.result()
    assert codes[200] > 0
    assert set(codes) <= {200, *RETRYABLE}
    own.gateway.wait()


def test_the_gateway_reconnects_to_a_restarted_torchserve(own: ModelServer) -> None:
    """TorchServe renews its tokens at a restart; those of the gateway's clients stay valid."""
    client = ServerClient(own.gateway.url, own.gateway.keys)
    own.torchserve.stop()
    with own.http() as http:
        assert http.post(PATH, content=jpeg()).status_code == 503
        assert http.get("/ready").status_code == 503
        assert http.get("/health").status_code == 503
    own.torchserve.start()
    own.torchserve.wait()
    own.gateway.wait()
    assert client.score([jpeg()]) == in_process(own, [jpeg()])


def test_a_busy_server_is_healthy(own: ModelServer) -> None:
    """Otherwise a load balancer would replace it, and then the next one."""
    done = threading.Event()
    nginx = edge(own)
    idle = callers(nginx, own.ports.gateway)

    def ask() -> None:
        with own.http() as http:
            while not done.is_set():
                http.post(PATH, files=[("image", body) for body in BATCH])

    with ThreadPoolExecutor(48) as pool:
        for _ in range(48):
            pool.submit(ask)
        try:
            until(
                lambda: len(callers(nginx, own.ports.gateway) - idle) == 48,
                "the 48 requests were not accepted",
            )
            answers = [httpx.get(f"{own.gateway.url}/health", timeout=30) for _ in range(20)]
        finally:
            done.set()
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == {"status": "Healthy"}


def test_the_log_of_requests_is_rotated(own: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log = own.gateway.folder / "logs" / "access.log"
    before = log.with_suffix(".log.1")
    monkeypatch.setattr("infra.local.gateway._LOG_BYTES", 2000)
    with own.http() as http:
        for number in range(100):
            assert http.get(f"/nothing-{number}").status_code == 404
            if before.exists() and log.exists():
                break
            time.sleep(0.05)
        http.get("/the-last")
    assert before.stat().st_size > 2000
    assert "/the-last" in log.read_text()
    assert len(before.read_text().splitlines() + log.read_text().splitlines()) > number + 1


def test_models_outside_the_store_cannot_be_registered(own: ModelServer, tmp_path: Path) -> None:
    keys = own.torchserve.read_keys()
    outside = tmp_path / "other.mar"
    outside.write_bytes(own.archive.read_bytes())
    for url in ("http://127.0.0.1:9/x.mar", f"file://{outside}", str(outside), "../../tiny.mar"):
        answer = httpx.post(
            f"http://{HOST}:{own.ports.management}/models",
            params={"url": url},
            headers={"Authorization": f"Bearer {keys['management']['key']}"},
        )
        assert answer.status_code in (400, 404), answer.text
    with own.http() as http:
        assert http.post("/models", params={"url": "tiny.mar"}).status_code == 404


def test_torchserve_rejects_everyone_but_the_gateway(own: ModelServer) -> None:
    for headers in ({}, {"Authorization": f"Bearer {own.token}"}):
        answer = httpx.post(f"{own.torchserve.url}{PATH}", content=jpeg(), headers=headers)
        assert answer.status_code == 400
        assert "oken" in answer.text


def test_the_gateway_serves_tls(own: ModelServer, tmp_path: Path) -> None:
    chain, key = self_signed(tmp_path)
    ports = own.ports.free()
    gateway = GatewayService(
        tmp_path / "gateway",
        type(ports)(**{**vars(own.ports), "gateway": ports.gateway}),
        own.archive,
        own.torchserve.keys,
        Certificate(chain, key),
    )
    try:
        gateway.start()
        gateway.wait()
        trusting = ssl.create_default_context(cafile=str(chain))
        headers = {"Authorization": f"Bearer {gateway.token}"}
        answer = httpx.post(
            f"{gateway.url}{PATH}", content=jpeg(), headers=headers, verify=trusting
        )
        assert predictions(answer) == in_process(own, [jpeg()])
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{gateway.url}/ready")
    finally:
        gateway.stop()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "moodlake test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


def edge(server: ModelServer) -> psutil.Process:
    """Return the nginx that accepts the clients' connections."""
    return psutil.Process(server.gateway.children["edge"].pid).children()[0]


def callers(nginx: psutil.Process, port: int) -> set[tuple[str, int]]:
    """Return the remote addresses of the connections that nginx's workers hold."""
    return {
        connection.raddr
        for worker in nginx.children()
        for connection in worker.net_connections("tcp")
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    }


def test_a_stop_lets_accepted_requests_finish(own: ModelServer) -> None:
    """The module's last test: it stops the server."""
    large = [(str(index), jpeg(index, 2_000, 1_500)) for index in range(100)]

    def ask(_: int) -> int:
        with own.http() as http:
            return http.post(PATH, files=large).status_code

    nginx = edge(own)
    idle = callers(nginx, own.ports.gateway)  # connections of earlier tests
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, number) for number in range(6)]
        until(
            lambda: len(callers(nginx, own.ports.gateway) - idle) == 6,
            "the six requests were not accepted",
        )
        time.sleep(0.3)  # until nginx has read the heads of the requests
        own.stop()
        assert [future.result() for future in asked] == [200] * 6
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{own.gateway.url}/ready")
