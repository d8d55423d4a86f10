"""A proxy for S3 that injects the faults of networks and overloaded stores."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from infra.local.ports import HOST
from infra.local.service import Startable

_SLOW_SECONDS = 0.7
_TIMEOUT = 90.0


class Fault(StrEnum):
    """A fault of a request. `FAILED_PRECONDITION` applies to conditional requests only."""

    SLOW = "slow"
    OVERLOADED = "503"
    CUT = "cut before the request"
    UNANSWERED = "cut before the response"
    FAILED_PRECONDITION = "412"
    HALF = "cut within the response"
    SHORT = "half a response with its own length"


RequestHook = Callable[[str, str], bool]
"""Called with a request's method and path; True cuts the connection at that point."""


class FaultProxy(Startable):
    """Forwards HTTP requests to a port of this machine, and injects faults into a share of them.

    Args:
        port: the port of the upstream server.
        share: the share of requests that get a fault, from 0 to 1.
        faults: the faults to inject, in turn.
        seed: the seed of the choice of requests.
        paths: a regular expression; only requests whose path matches it get faults.

    Attributes:
        injected: the number of injected faults of each kind.
        on_request: called for each request before it is forwarded.
        on_response: called for each response before it is returned to the client.
    """

    def __init__(
        self,
        port: int,
        share: float = 0.0,
        faults: tuple[Fault, ...] = tuple(Fault),
        seed: int = 0,
        paths: str = "",
    ) -> None:
        self.port = port
        self._paths = re.compile(paths)
        self.share = share
        self.faults = faults
        self.injected: Counter[Fault] = Counter()
        self.on_request: RequestHook = lambda method, path: False
        self.on_response: RequestHook = lambda method, path: False
        self._rng = random.Random(seed)
        self._turns: Counter[Fault] = Counter()
        self._lock = threading.Lock()
        self._server = _Server((HOST, 0), _Handler)
        self._server.proxy = self
        self.url = f"http://{HOST}:{self._server.server_port}"

    def start(self) -> None:
        """Start listening."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def choose(self, path: str, conditional: bool) -> Fault | None:
        """Choose the fault of the next request: the one chosen least often; None for no fault."""
        with self._lock:
            # Only these paths draw a random number, so that the number of faults depends on the
            # seed and not on the client's other requests.
            if not self._paths.search(path) or self._rng.random() >= self.share:
                return None
            apply = [
                fault
                for fault in self.faults
                if conditional or fault is not Fault.FAILED_PRECONDITION
            ]
            if not apply:
                return None
            fault = min(apply, key=self._turns.__getitem__)
            self._turns[fault] += 1
            return fault

    def count(self, fault: Fault) -> None:
        """Count an injected fault."""
        with self._lock:
            self.injected[fault] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy


class _Cut(Exception):
    """The connection must be cut."""


class _Handler(BaseHTTPRequestHandler):
    """A client's connection, with its own connection to the upstream server."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.proxy = cast(_Server, self.server).proxy
        self._upstream = HTTPConnection(HOST, self.proxy.port, timeout=_TIMEOUT)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # clients are killed, too
            super().handle()

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def _handle_request(self) -> None:
        try:
            conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
            self._apply(self._body(), self.proxy.choose(self.path, conditional))
        except (_Cut, OSError, HTTPException):
            self._reset()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle_request

    def _body(self) -> bytes:
        """Return the request body as received; a chunked body keeps its chunk headers."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body, size = b"", 1
        while size:
            head = self.rfile.readline()
            size = int(head.partition(b";")[0], 16)
            body += head + self.rfile.read(size) + self.rfile.readline()
        return body

    def _apply(self, body: bytes, fault: Fault | None) -> None:
        if self.proxy.on_request(self.command, self.path) or fault is Fault.CUT:
            raise self._cut_by(fault)
        if fault is Fault.SLOW:
            self.proxy.count(fault)
            time.sleep(_SLOW_SECONDS)
        if fault is Fault.OVERLOADED:
            self._send_error_response(fault, 503, "SlowDown")
        elif fault is Fault.FAILED_PRECONDITION:
            self._send_error_response(fault, 412, "PreconditionFailed")
        else:
            self._forward(body, fault)

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        # The signature covers the client's headers, including Host.
        self._upstream.putrequest(
            self.command, self.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():
            if name.lower() != "expect":  # answered by this server
                self._upstream.putheader(name, value)
        self._upstream.endheaders(body)
        response = self._upstream.getresponse()
        content = response.read()
        if self.proxy.on_response(self.command, self.path) or fault is Fault.UNANSWERED:
            raise self._cut_by(fault)
        length = int(response.headers.get("Content-Length", len(content)))
        declared = length
        if fault in (Fault.HALF, Fault.SHORT) and len(content) > 1:
            self.proxy.count(fault)
            content = content[: len(content) // 2]
            declared = len(content) if fault is Fault.SHORT else length
        self.send_response_only(response.status, response.reason)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(content)
        if len(content) < declared and self.command != "HEAD":
            raise _Cut

    def _cut_by(self, fault: Fault | None) -> _Cut:
        if fault:
            self.proxy.count(fault)
        return _Cut()

    def _send_error_response(self, fault: Fault, status: int, code: str) -> None:
        self.proxy.count(fault)
        content = f"<Error><Code>{code}</Code><Message>injected fault</Message></Error>".encode()
        self.send_response_only(status, code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        """Reset the connection, so that the client notices at once."""
        self.close_connection = True
        self._upstream.close()
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
