"""Soak test of the model server: many requests, a tenth of them bad.

`python -m infra.bench.soak` starts and stops its own server. The exit code is 1 if an answer is not
the documented one, if a worker was restarted, or if memory grew by more than 5 % after the first
tenth of the requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from infra.bench.bodies import as_form, as_json
from infra.bench.images import encoded, photos_with_faces
from infra.local.server import ModelServer
from moodlake.settings import MODEL_NAME, RELEASED_ARCHIVE

_THREADS = 16
_REPORTS = 10
_MOST_GROWTH = 1.05
_ADDRESS = f"/predictions/{MODEL_NAME}"
_BAD_SHARE = 0.1


@dataclass(frozen=True)
class Request:
    """A request and its documented answer.

    Attributes:
        status: HTTP status; 0 if the client disconnects before the answer.
        reasons: reason of each image, None if scored; empty if the answer has none.
    """

    name: str
    body: bytes
    status: int = 200
    reasons: tuple[str | None, ...] = ()
    kind: str = "application/octet-stream"
    address: str = _ADDRESS
    token: bool = True


def good_requests() -> list[Request]:
    """Return valid requests of every kind, with images of several formats and shapes."""
    photos = photos_with_faces(24)
    small = [encoded(photo.resize((96, 72)), "PNG") for photo in photos[:6]]
    tall = [encoded(photo.resize((240, 480)), "WEBP") for photo in photos[6:12]]
    jpegs = [encoded(photo, "JPEG") for photo in photos]
    every = [*jpegs, *small, *tall]
    singles = [Request("one", image, address=f"{_ADDRESS}?faces=none") for image in every]
    faces = [Request("largest face", image, reasons=(None,)) for image in jpegs]
    forms = [
        Request("form of four", body, kind=kind, reasons=(None,) * 4)
        for kind, body in (as_form(jpegs[start : start + 4]) for start in range(0, 24, 4))
    ]
    kind, body = as_json(jpegs[:2], faces="all", label_space="mood3", timings="true")
    described = Request("description", b"", address=f"{_ADDRESS}?describe=true")
    explained = Request("explanation", jpegs[0], address=f"/explanations/{MODEL_NAME}")
    instances = Request("JSON of two", body, kind=kind, reasons=(None,) * 2)
    return [*singles, *faces, *forms, *[instances] * 3, described, explained]


def bad_requests() -> list[Request]:
    """Return invalid requests, and requests with bad images."""
    photo = encoded(photos_with_faces(1)[0], "JPEG")
    kind, body = as_form([photo, b"no image", photo[: len(photo) // 2]])
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    grey = encoded(Image.new("L", (320, 240), 128), "JPEG")
    return [
        Request("text", b"no image", reasons=("not_an_image",)),
        Request("cut off", photo[:-2_000], reasons=("truncated",)),
        Request("too many pixels", bomb, reasons=("too_many_pixels",)),
        Request("no face", grey, reasons=("no_face",)),
        Request("neighbours", body, kind=kind, reasons=(None, "not_an_image", "truncated")),
        Request("no body", b"", 422),
        Request("half a form", body[:-20], 422, kind=kind),
        Request("half a JSON", b'{"instances": [', 422, kind="application/json"),
        Request("explanation of several", body, 422, address=f"/explanations/{MODEL_NAME}"),
        Request("no such option", photo, 422, address=f"{_ADDRESS}?face=all"),
        Request("no such version", photo, 404, address=f"{_ADDRESS}/0.0"),
        Request("no token", photo, 401, token=False),
        Request("disconnect", photo, 0),
    ]


@dataclass
class Soak:
    """Requests to a server, and the wrong answers."""

    server: ModelServer
    wrong: Counter[str] = field(default_factory=Counter)
    _local: threading.local = field(default_factory=threading.local)

    def send(self, request: Request) -> None:
        """Send a request, and count an answer that differs from the documented one."""
        if request.status == 0:
            with socket.create_connection(self.server.address) as connection:
                connection.sendall(
                    b"POST %b HTTP/1.1\r\nContent-Length: 999\r\n" % _ADDRESS.encode()
                )
            return
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(*self.server.address)
        headers = {"Content-Type": request.kind}
        if request.token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        self._local.connection.request("POST", request.address, request.body, headers)
        answer = self._local.connection.getresponse()
        content = answer.read()
        if difference := _difference(request, answer.status, content):
            self.wrong[f"{request.name}: {difference}"] += 1

    def memory(self) -> dict[str, float]:
        """Return the resident memory of the server's processes in MB, by kind."""
        children = [
            *self.server.torchserve.children.values(),
            *self.server.gateway.children.values(),
        ]
        workers = {worker.pid for worker in self.server.workers()}
        found = dict.fromkeys(("workers", "TorchServe", "nginx"), 0.0)
        for child in children:
            top = psutil.Process(child.pid)
            for process in (top, *top.children(recursive=True)):
                name = "nginx" if "nginx" in process.name() or process.name() == "sh" else None
                kind = "workers" if process.pid in workers else name or "TorchServe"
                found[kind] += process.memory_info().rss / 2**20
        return found | {"all": sum(found.values())}


def _difference(request: Request, status: int, content: bytes) -> str:
    if status != request.status:
        return f"HTTP {status}: {content[:100]!r}"
    if request.reasons:
        reasons = tuple(each["reason"] for each in json.loads(content)["predictions"])
        return "" if reasons == request.reasons else f"{reasons}"
    return ""


def soak(archive: Path, count: int, show: Callable[[str], None]) -> tuple[Table, list[str]]:
    """Send `count` requests; return the memory after each tenth, and the problems."""
    rng = np.random.default_rng(0)
    good, bad = good_requests(), bad_requests()
    results = Table("requests", *("workers", "TorchServe", "nginx", "all"), title="resident MB")
    totals: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ModelServer(Path(folder), archive) as server:
        soaking = Soak(server)
        workers = server.workers()
        with ThreadPoolExecutor(_THREADS) as pool:
            for tenth in range(1, _REPORTS + 1):
                kinds = rng.random(count // _REPORTS) < _BAD_SHARE
                sent = [(bad if b else good)[rng.integers(len(bad if b else good))] for b in kinds]
                list(pool.map(soaking.send, sent))
                memory = soaking.memory()
                totals.append(memory["all"])
                row = (f"{tenth * count // _REPORTS}", *(f"{size:.0f}" for size in memory.values()))
                results.add_row(*row)
                show("  ".join(row))
        problems = [f"{number} x {what}" for what, number in soaking.wrong.items()]
        if server.workers() != workers:
            problems.append("a worker was restarted")
    if totals[-1] > _MOST_GROWTH * totals[0]:
        problems.append(f"memory grew from {totals[0]:.0f} to {totals[-1]:.0f} MB")
    return results, problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--archive", type=Path, default=RELEASED_ARCHIVE)
    options = parser.parse_args()
    console = Console()
    table, problems = soak(options.archive, options.requests, console.print)
    console.print(table)
    for problem in problems:
        console.print(f"[red]{problem}")
    sys.exit(bool(problems))
