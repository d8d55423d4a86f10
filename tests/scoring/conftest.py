"""A small S3 server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

ERRORS = {
    "archived.jpg": (403, "InvalidObjectState"),
    "denied.jpg": (403, "AccessDenied"),
    "gone.jpg": (404, "NoSuchKey"),
    "replaced.jpg": (412, "PreconditionFailed"),
    "expired.jpg": (400, "ExpiredToken"),
    "broken.jpg": (400, "InvalidRequest"),
}


class Store(BaseHTTPRequestHandler):
    put: dict[str, bytes]

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/bucket" else 404)
        self.end_headers()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.put[unquote(self.path)] = body
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

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
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Leads boto3 to a store that withholds some objects; keeps what is put, by path."""
    put: dict[str, bytes] = {}
    handler = type("Kept", (Store,), {"put": put})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "made-up")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield put
        server.shutdown()
