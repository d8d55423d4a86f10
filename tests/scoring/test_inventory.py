"""Reading from a store that withholds some objects: a real client, a store on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from moodlake.reasons import Reason, Rejected
from moodlake.scoring.inventory import (
    SetupError,
    SourceError,
    SourceObject,
    list_bucket,
    read_object,
    s3_client,
)

ERRORS = {
    "archived.jpg": (403, "InvalidObjectState"),
    "denied.jpg": (403, "AccessDenied"),
    "gone.jpg": (404, "NoSuchKey"),
    "replaced.jpg": (412, "PreconditionFailed"),
    "expired.jpg": (400, "ExpiredToken"),
    "broken.jpg": (400, "InvalidRequest"),
}


class Store(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        key = self.path.partition("?")[0].rpartition("/")[2]
        status, code = ERRORS.get(key, (403, "AccessDenied" if "?" in self.path else ""))
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        if not code:
            status, body = 200, b"content"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "made-up")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
        server.shutdown()


def read(key: str) -> bytes:
    item = SourceObject("bucket", key, "etag", 7, "2026-01-02T03:04:05+00:00")
    return read_object(s3_client(), item)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("archived.jpg", Reason.UNREADABLE),
        ("denied.jpg", Reason.UNREADABLE),
        ("gone.jpg", Reason.VANISHED),
        ("replaced.jpg", Reason.VANISHED),
    ],
)
def test_one_object_that_is_withheld_is_its_own_matter(
    store: None, key: str, reason: Reason
) -> None:
    with pytest.raises(Rejected) as caught:
        read(key)
    assert caught.value.reason is reason
    assert reason.is_passing
    assert read("sound.jpg") == b"content"


def test_expired_credentials_are_named(store: None) -> None:
    with pytest.raises(SetupError, match="ExpiredToken"):
        read("expired.jpg")


def test_a_failing_store_is_no_fault_of_the_object(store: None) -> None:
    with pytest.raises(SourceError, match="InvalidRequest"):
        read("broken.jpg")


def test_a_bucket_that_may_not_be_listed_is_told(store: None) -> None:
    with pytest.raises(SetupError, match="AccessDenied"):
        list(list_bucket(s3_client(), "bucket"))
