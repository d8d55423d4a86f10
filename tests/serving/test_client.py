"""The client against a server that misbehaves, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moodlake.prediction import Prediction
from moodlake.reasons import Reason, Status
from moodlake.scoring.run.scorer import ThrottlingEngine
from moodlake.serving.client import ServerClient, ServerError, connect
from moodlake.serving.token import ServerAway
from moodlake.settings import Settings

MODEL = {"name": "emotions", "version": "1.0", "digest": "d" * 64}
ABOUT = {
    "model": MODEL,
    "label_space": {"name": "mood3", "emotions": ["happy", "sad", "angry"]},
    "faces": "largest",
    "provenance": {},
}
Answer = Callable[[bytes, int], tuple[int, object]]


class Server(ThreadingHTTPServer):
    """Answers `answer(body, request number)`, and describes its model."""

    answer: Answer
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    about: tuple[int, object] = (200, ABOUT)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = self.about
        if "describe=true" not in self.path:
            self.server.requests += 1
            status, content = self.server.answer(body, self.server.requests)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def client_of(server: Server, **options: int) -> ServerClient:
    return ServerClient(f"http://127.0.0.1:{server.server_port}", **options)


def scored(body: bytes) -> tuple[int, object]:
    prediction = Prediction(Status.SCORED).to_dict()
    named = [{"name": f"{index:06d}", **prediction} for index in range(body.count(b"image-"))]
    return 200, {"model": MODEL, "predictions": named}


IMAGES = [f"image-{number}".encode() for number in range(8)]


def test_an_older_server_has_no_reference(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_of(server).reference is None
    reference = {"dominant": {"happy": 3}}
    monkeypatch.setattr(Handler, "about", (200, ABOUT | {"reference": reference}))
    assert client_of(server).reference == reference


def test_the_image_that_kills_the_worker_is_isolated(server: Server) -> None:
    server.answer = lambda body, number: (500, {}) if b"image-5" in body else scored(body)
    reasons = [item.reason for item in client_of(server).score(IMAGES)]
    assert reasons == [Reason.MODEL_ERROR if number == 5 else None for number in range(8)]


def test_a_batch_over_the_limit_is_sent_in_halves_without_delay(server: Server) -> None:
    server.answer = lambda body, number: (413, {}) if body.count(b"image-") > 4 else scored(body)
    assert len(client_of(server).score(IMAGES)) == 8
    assert server.requests == 3


def test_an_image_over_the_limit_is_rejected_as_too_large(server: Server) -> None:
    server.answer = lambda body, number: (413, {}) if b"image-5" in body else scored(body)
    reasons = [item.reason for item in client_of(server).score(IMAGES)]
    assert reasons == [Reason.TOO_LARGE if number == 5 else None for number in range(8)]


@pytest.mark.parametrize("images", [b"image-1", ["photo.jpg"]])
def test_images_must_be_a_list_of_bytes(server: Server, images: list[bytes]) -> None:
    with pytest.raises(TypeError, match="a list of encoded files"):
        client_of(server).score(images)


def test_a_face_mode_may_be_given_by_name(server: Server) -> None:
    server.answer = lambda body, number: scored(body)
    assert len(client_of(server).score(IMAGES, faces="all")) == 8
    with pytest.raises(ValueError, match="both"):
        client_of(server).score(IMAGES, faces="both")


def test_a_worker_that_died_once_costs_no_image(server: Server) -> None:
    server.answer = lambda body, number: (500, {}) if number == 1 else scored(body)
    assert [item.reason for item in client_of(server).score(IMAGES[:1])] == [None]


def test_failures_of_an_image_count_while_the_server_is_busy(server: Server) -> None:
    server.answer = lambda body, number: (500, {}) if number % 2 else (503, {})
    assert [item.reason for item in client_of(server).score(IMAGES[:1])] == [Reason.MODEL_ERROR]


@pytest.mark.parametrize("status", [429, 503])
def test_a_throttled_request_is_retried_and_counted(server: Server, status: int) -> None:
    server.answer = lambda body, number: (status, {}) if number < 3 else scored(body)
    client = client_of(server)
    assert isinstance(client, ThrottlingEngine)
    assert len(client.score(IMAGES)) == 8
    assert client.throttled == 2


def test_an_overloaded_server_rejects_no_image(server: Server) -> None:
    server.answer = lambda body, number: (503, {"message": "queue full"})
    with pytest.raises(ServerError, match="503"):
        client_of(server, attempts=2).score(IMAGES)


@pytest.mark.parametrize("status", [400, 403, 405])
def test_a_rejected_request_rejects_no_image(server: Server, status: int) -> None:
    server.answer = lambda body, number: (status, {"message": "session expired"})
    with pytest.raises(ServerError, match="session expired"):
        client_of(server).score(IMAGES)


def test_answers_for_other_images_are_an_error(server: Server) -> None:
    server.answer = lambda body, number: scored(b"image-" * 7)
    with pytest.raises(ServerError, match="did not answer for the images"):
        client_of(server).score(IMAGES)


@pytest.mark.parametrize("status", [200, 500])
def test_another_kind_of_server_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Handler, "about", (status, {"hello": "world"}))
    with pytest.raises(ServerError, match=f"127.0.0.1:{server.server_port}"):
        client_of(server, attempts=2)


def test_a_model_that_changes_during_a_run_is_an_error(server: Server) -> None:
    other = {"model": {**MODEL, "digest": "e" * 64}, "predictions": []}
    server.answer = lambda body, number: (200, other)
    with pytest.raises(ServerError, match="changed during the run"):
        client_of(server).score(IMAGES)


def test_a_rejected_token_is_an_error(server: Server, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({"inference": {"key": "old"}}))
    server.answer = lambda body, number: (401, {"message": "send a token"})
    client = ServerClient(f"http://127.0.0.1:{server.server_port}", keys)
    with pytest.raises(ServerError, match="rejects the token"):
        client.score(IMAGES)


def test_a_renewed_token_is_read_again(server: Server, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({"inference": {"key": "old"}}))
    client = ServerClient(f"http://127.0.0.1:{server.server_port}", keys)
    keys.write_text(json.dumps({"inference": {"key": "new"}}))
    server.answer = lambda body, number: (
        (401, {"message": "send a token"}) if number == 1 else scored(body)
    )
    assert len(client.score(IMAGES)) == 8


def test_parallel_requests_read_a_renewed_token_again(server: Server, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({"inference": {"key": "old"}}))
    client = ServerClient(f"http://127.0.0.1:{server.server_port}", keys)
    keys.write_text(json.dumps({"inference": {"key": "new"}}))
    both_sent = threading.Barrier(2)

    def refuse_the_first_two(body: bytes, number: int) -> tuple[int, object]:
        if number > 2:
            return scored(body)
        both_sent.wait(60)
        return 401, {"message": "send a token"}

    server.answer = refuse_the_first_two
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(client.score, [IMAGES[:4], IMAGES[4:]]))
    assert [len(answer) for answer in answers] == [4, 4]


@pytest.fixture
def starting(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server whose first 20 answers are 503."""
    monkeypatch.setattr("moodlake.serving.protocol._MAX_BACKOFF", 0.01)
    answers = iter([(503, {})] * 20)

    class Starting(Handler):
        @property
        def about(self) -> tuple[int, object]:
            return next(answers, (200, ABOUT))

    server.RequestHandlerClass = Starting
    return server


def test_connect_waits_for_a_starting_server_as_long_as_the_settings_allow(
    starting: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{starting.server_port}"
    with pytest.raises(ServerAway, match="no answer"):
        connect(Settings(server_url=url))
    assert not caplog.records
    ready = connect(Settings(server_url=url, server_wait=60))
    assert ready.identity.digest == MODEL["digest"]
    ready.close()
    (record,) = caplog.records
    assert "waiting up to 60 s for a server" in record.getMessage()


def test_interactive_callers_do_not_wait(starting: Server) -> None:
    url = f"http://127.0.0.1:{starting.server_port}"
    with pytest.raises(ServerAway, match="no answer"):
        connect(Settings(server_url=url, server_wait=3600), interactive=True)


def test_connect_does_not_wait_for_a_server_that_denies_access(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "about", (401, {}))
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(ServerError, match="rejects the token"):
        connect(Settings(server_url=url, server_wait=3600))
