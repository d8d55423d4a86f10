"""A proxy before the real S3 that does to requests what networks and overloaded stores do."""

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
from infra.local.service import StartedInside

_SLOW_SECONDS = 0.7
_TIMEOUT = 30.0


class Fault(StrEnum):
    """What may happen to a request; 412 only to one with a condition."""

    SLOW = "slow"
    OVERLOADED = "503"
    CUT = "cut before it arrived"
    UNANSWERED = "done, and cut before the answer"
    FAILED_PRECONDITION = "412"
    HALF = "cut in the answer"
    SHORT = "half an answer that says it is whole"


Seen = Callable[[str, str], bool]
"""Is told method and path of a request; True cuts the connection there."""


class FaultProxy(StartedInside):
    """Passes HTTP requests on to a port of this machine, as they are, but for a share of them.

    Args:
        port: of the server behind it.
        share: of the requests that a fault happens to.
        faults: one of these is chosen by chance.
        seed: of chance.
        paths: only to requests whose path has this regular expression in it.

    Attributes:
        happened: how often each fault was.
        arrived: sees each request before it is passed on.
        done: sees each request that was answered, before its client does.
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
        self.happened: Counter[Fault] = Counter()
        self.arrived: Seen = lambda method, path: False
        self.done: Seen = lambda method, path: False
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._server = _Server((HOST, 0), _Handler)
        self._server.proxy = self
        self.url = f"http://{HOST}:{self._server.server_port}"

    def start(self) -> None:
        """Listen."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()

    def choose(self, path: str) -> Fault | None:
        """What happens to the next request."""
        with self._lock:
            # Chance is asked about these paths only: how many faults there are hangs on the seed,
            # not on what else the client asks for in between.
            if not self._paths.search(path) or self._rng.random() >= self.share:
                return None
            return self._rng.choice(self.faults)

    def count(self, fault: Fault) -> None:
        """Note that it happened."""
        with self._lock:
            self.happened[fault] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy


class _Cut(Exception):
    """The connection is to end here."""


class _Handler(BaseHTTPRequestHandler):
    """One client's connection, with one of its own to the server behind."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.proxy = cast(_Server, self.server).proxy
        self._behind = HTTPConnection(HOST, self.proxy.port, timeout=_TIMEOUT)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # clients are killed, too
            super().handle()

    def finish(self) -> None:
        self._behind.close()
        super().finish()

    def _pass(self) -> None:
        try:
            self._pass_on(self._body(), self.proxy.choose(self.path))
        except (_Cut, OSError, HTTPException):
            self._cut()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _body(self) -> bytes:
        """As it came: what comes in chunks stays in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body, size = b"", 1
        while size:
            head = self.rfile.readline()
            size = int(head.partition(b";")[0], 16)
            body += head + self.rfile.read(size) + self.rfile.readline()
        return body

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
        if fault is Fault.FAILED_PRECONDITION and not conditional:
            fault = None
        if self.proxy.arrived(self.command, self.path) or fault is Fault.CUT:
            raise self._because(fault)
        if fault is Fault.SLOW:
            self.proxy.count(fault)
            time.sleep(_SLOW_SECONDS)
        if fault is Fault.OVERLOADED:
            self._refuse(fault, 503, "SlowDown")
        elif fault is Fault.FAILED_PRECONDITION:
            self._refuse(fault, 412, "PreconditionFailed")
        else:
            self._ask(body, fault)

    def _ask(self, body: bytes, fault: Fault | None) -> None:
        # The Host that the client signed goes along, as all its headers do.
        self._behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":  # was answered here
                self._behind.putheader(name, value)
        self._behind.endheaders(body)
        response = self._behind.getresponse()
        content = response.read()
        if self.proxy.done(self.command, self.path) or fault is Fault.UNANSWERED:
            raise self._because(fault)
        length = int(response.headers.get("Content-Length", len(content)))
        said = length
        if fault in (Fault.HALF, Fault.SHORT) and len(content) > 1:
            self.proxy.count(fault)
            content = content[: len(content) // 2]
            said = len(content) if fault is Fault.SHORT else length
        self.send_response_only(response.status, response.reason)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(said))
        self.end_headers()
        self.wfile.write(content)
        if len(content) < said and self.command != "HEAD":
            raise _Cut

    def _because(self, fault: Fault | None) -> _Cut:
        if fault:
            self.proxy.count(fault)
        return _Cut()

    def _refuse(self, fault: Fault, status: int, code: str) -> None:
        self.proxy.count(fault)
        content = f"<Error><Code>{code}</Code><Message>by chance</Message></Error>".encode()
        self.send_response_only(status, code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        """End the connection with a reset: the client learns at once."""
        self.close_connection = True
        self._behind.close()
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
