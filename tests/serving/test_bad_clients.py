"""Invalid, slow or many requests: the server answers them, and the next valid one."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from infra.local.server import ModelServer
from tests.images_made import jpeg
from tests.serving.test_server import PATH, in_process, predictions

FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _still_serving(server: ModelServer) -> Iterator[None]:
    yield
    with server.http() as http:
        assert predictions(http.post(PATH, content=jpeg())) == in_process(server, [jpeg()])


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and message of an error, which is JSON."""
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["code"] == answer.status_code
    return answer.status_code, answer.json()["message"]


def form(count: int) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\nnothing\r\n'
    return b"".join(part % index for index in range(count)) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        (FORM, form(0), 422, "no image"),
        (FORM, form(10_001), 413, "at most 256"),
        (FORM, b"--x\r\n\r\n\r\n" * 2_000_000 + b"--x--\r\n", 413, "at most 256"),
        (FORM, form(2)[:-8], 422, "cut off"),
        (
            FORM,
            b"--x\r\nContent-Disposition: form-data; name*=a; name*0=b\r\n\r\n\r\n--x--\r\n",
            422,
            "Content-Disposition is invalid",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary*=x; boundary*0=y"},
            form(1),
            422,
            "Content-Type is invalid",
        ),
        (FORM, b"junk", 422, "form"),
        (FORM, b"", 422, "cut off"),
        ({"Content-Type": "multipart/form-data"}, form(1), 422, "boundary"),
        (JSON, b"{", 422, "not JSON"),
        (JSON, b"\xff\xfe", 422, "not JSON"),
        (JSON, b"[" * 5_000, 422, "not JSON"),
        (JSON, b"[" * 30_000_000, 413, "too many values"),
        (JSON, b'{"instances": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", 422, "not JSON"),
        (JSON, b'{"a": ' + b"1" * 10_000_000 + b"}", 422, "not JSON"),
        (JSON, b'{"instances": []}', 422, "no image"),
        (JSON, b'{"instances": {}}', 422, "instances"),
        (JSON, b'{"instances": ["aGk="], "parameters": {"faces": []}}', 422, "faces"),
        (
            JSON,
            b'{"instances": ["aGk="], "parameters": {"' + b"\x7f" * 14_000_000 + b'": []}}',
            422,
            "must be a string",
        ),
        (JSON, b"null", 422, "instances"),
    ],
)
def test_an_invalid_body_is_an_error(
    server: ModelServer, headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    with server.http() as http:
        code, message = error_of(http.post(PATH, headers=headers, content=body))
    assert (code, words in message) == (status, True), message


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("fces=all", "known: faces"),
        ("faces=both", "'none', 'largest' or 'all'"),
        ("faces=all&faces=none", "given twice: faces"),
        ("top_k=0", "1 to 100"),
        ("top_k=" + "9" * 500, "1 to 100"),
        ("top_k=0101", "1 to 100"),
        ("label_space=moods", "mood3"),
        ("timings=perhaps", "true or false"),
        ("%ff=1", "is invalid"),
        ("&".join(f"o{number}=1" for number in range(99)), "is invalid"),
    ],
)
def test_an_invalid_option_is_an_error(server: ModelServer, query: str, words: str) -> None:
    with server.http() as http:
        code, message = error_of(http.post(f"{PATH}?{query}", content=jpeg()))
    assert (code, words in message) == (422, True), message


def test_parts_without_a_name_are_numbered(server: ModelServer) -> None:
    parts = [b"--x\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n" % jpeg(index) for index in range(2)]
    with server.http() as http:
        answer = http.post(PATH, headers=FORM, content=b"".join(parts) + b"--x--\r\n")
    assert [item["name"] for item in answer.json()["predictions"]] == ["0", "1"]
    assert predictions(answer) == in_process(server, [jpeg(0), jpeg(1)])


def test_the_gateway_rejects_invalid_requests(server: ModelServer) -> None:
    with server.http() as http:
        for header in ({"Authorization": ""}, {"Authorization": "Bearer guess"}):
            rejected = http.post(PATH, headers=header, content=jpeg())
            assert error_of(rejected)[0] == 401
            assert rejected.headers["WWW-Authenticate"] == "Bearer"
        wrong = http.get(PATH)
        assert (error_of(wrong)[0], wrong.headers["Allow"]) == (405, "POST")
        assert error_of(http.get("/models"))[0] == 404
        assert error_of(http.post("/predictions/other", content=jpeg()))[0] == 404
        status, message = error_of(http.post(f"{PATH}/9.9", content=jpeg()))
        assert (status, "versions" in message) == (404, True)
        assert error_of(http.post(PATH, headers={"X-Big": "x" * 50_000}))[0] == 431
        assert error_of(http.post(f"{PATH}?{'x' * 50_000}"))[0] == 414
        assert error_of(http.post(f"{PATH}%0A", content=jpeg()))[0] == 404
        assert error_of(http.post(f"{server.gateway.url}/ready", content=b"x" * 2_000))[0] == 413
        lower = {"Authorization": f"bearer {server.token}"}
        assert error_of(http.post(PATH, headers=lower, content=jpeg()))[0] == 401


def test_long_headers_are_accepted(server: ModelServer) -> None:
    """TorchServe alone would reject them."""
    headers = {f"X-{number}": "x" * 3_900 for number in range(3)} | {"explain": "True"}
    with server.http() as http:
        assert predictions(http.post(PATH, headers=headers, content=jpeg())) == in_process(
            server, [jpeg()]
        )


def test_a_body_over_the_limit_is_rejected_before_it_is_sent(server: ModelServer) -> None:
    with socket.create_connection(server.address) as raw:
        raw.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Length: {10**12}\r\n\r\n".encode()
        )
        assert b" 413 " in raw.recv(100)


def start_upload(server: ModelServer, sent: bytes) -> socket.socket:
    raw = socket.create_connection(server.address)
    raw.sendall(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + sent
    )
    return raw


def test_an_upload_that_stops_times_out(server: ModelServer) -> None:
    with start_upload(server, b"400\r\nhalf a chunk") as raw:
        raw.settimeout(30)
        started = time.monotonic()
        answer = raw.recv(1_000)
        assert b" 408 " in answer or answer == b""
        assert time.monotonic() - started < 20


def test_slow_uploads_do_not_block_others(server: ModelServer) -> None:
    slow = [start_upload(server, b"1\r\n") for _ in range(200)]
    try:
        with server.http() as http:
            assert predictions(http.post(PATH, content=jpeg())) == in_process(server, [jpeg()])
    finally:
        for raw in slow:
            raw.close()


def test_a_client_that_does_not_read_its_answer_blocks_nobody(server: ModelServer) -> None:
    body = form(200)
    with socket.create_connection(server.address) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        raw.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        for _ in range(3):
            assert raw.recv(1)
            with server.http() as http:
                assert http.post(PATH, content=jpeg()).status_code == 200


def test_a_thousand_connections_at_once(server: ModelServer) -> None:
    """Each gets an answer: a prediction, or an error with Retry-After."""
    with (
        server.http(limits=httpx.Limits(max_connections=1_000)) as http,
        ThreadPoolExecutor(1_000) as pool,
    ):
        answers = list(pool.map(lambda _: http.post(PATH, content=jpeg()), range(1_000)))
    codes = {answer.status_code for answer in answers}
    assert 200 in codes
    assert codes <= {200, 429, 503}
    for answer in answers:
        if answer.status_code == 200:
            assert answer.json()["predictions"][0]["status"] == "scored"
        else:
            error_of(answer)
            assert int(answer.headers["Retry-After"]) > 0


def test_many_large_requests_at_once(server: ModelServer) -> None:
    """TorchServe answers all requests that pass the gateway: together they fit in its memory."""
    body = bytes(62 * 2**20)
    with server.http() as http, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: http.post(PATH, content=body), range(24)))
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) <= {200, 429}
    assert codes[200] >= 16


def test_no_image_and_no_token_is_written_to_a_log(server: ModelServer) -> None:
    marker = b"secret-pixels-" * 200_000
    with server.http() as http:
        http.post(PATH, content=marker, params={"label_space": "hidden-option"})
        http.post(PATH, content=marker * 30, params={"label_space": "hidden-option"})
        http.post(PATH, headers=JSON, content=json.dumps({"instances": [marker.decode()]}))
        http.post(PATH, params={"faces": "hidden-option"}, content=jpeg())
    for service in (server.torchserve, server.gateway):
        for log in service.folder.rglob("*.log"):
            text = log.read_bytes()
            assert b"secret-pixels" not in text, log
            assert b"hidden-option" not in text, log
            assert server.token.encode() not in text, log
