"""Benchmark of the model server against the in-process engine, measured in turns.

Measures the released model and a ResNet-50. `python -m infra.bench.serve` starts and stops its own
servers. Goals: a ratio of 0.95 for requests of 16 images, and of 0.9 for single images with 32 in
flight; at half of the peak load, a 99th percentile below 4 times the median of an idle server.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.bench.bodies import as_form
from infra.bench.images import encoded, photos_with_faces
from infra.local.server import ModelServer
from moodlake.inference.model import Model
from moodlake.settings import MODEL_NAME, RELEASED_ARCHIVE

_TURNS = 5
_TURN_IMAGES = {"emotions": 640, "resnet50": 160}
_DISTINCT = 100
_BULK = 16
_IN_FLIGHT = 32
_LATENCY_REQUESTS = 300

Score = Callable[[Sequence[bytes]], object]


class Server:
    """A minimal client of the model server, with a connection per thread.

    It shares the machine's cores with the server, so it does as little as possible.
    """

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self._address = address
        self._token = token
        self._local = threading.local()

    def score(self, images: Sequence[bytes]) -> None:
        """Send one request: a single image as the body, several as the parts of a form."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(*self._address)
        kind, body = ("image/jpeg", images[0]) if len(images) == 1 else as_form(images)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        self._local.connection.request("POST", f"/predictions/{MODEL_NAME}", body, headers)
        answer = self._local.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {content[:200]!r}")


def rate(score: Score, batches: Sequence[Sequence[bytes]], threads: int) -> float:
    """Return images per second of a number of threads that score batches."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(score, batches))
        return sum(map(len, batches)) / (time.perf_counter() - started)


def by_turns(
    engine: Score, server: Score, images: Sequence[bytes], size: int, in_flight: int
) -> tuple[float, float, list[float]]:
    """Return the median images per second of both, and the ratio of every turn."""
    cores = os.cpu_count() or 1
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    rate(engine, batches[:8], cores)
    rate(server, batches[:8], in_flight)
    pairs = [
        (rate(engine, batches, cores), rate(server, batches, in_flight)) for _ in range(_TURNS)
    ]
    bare, served = np.median(pairs, axis=0)
    return float(bare), float(served), [second / first for first, second in pairs]


def latencies(score: Score, images: Sequence[bytes], per_second: float) -> np.ndarray:
    """Return the seconds of single requests sent at a steady rate, independent of earlier ones."""
    taken: list[float] = []
    lock = threading.Lock()

    def send(due: float, image: bytes) -> None:
        score([image])
        with lock:
            taken.append(time.perf_counter() - due)

    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        started = time.perf_counter()
        sent = []
        for number in range(_LATENCY_REQUESTS):
            due = started + number / per_second
            time.sleep(max(0.0, due - time.perf_counter()))
            sent.append(pool.submit(send, due, images[number % len(images)]))
        for request in sent:
            request.result()
    return np.array(taken)


def measure(archive: Path, announce: Callable[[str], None]) -> Table:
    """Run the benchmark; return the table of results."""
    distinct = [encoded(photo) for photo in photos_with_faces(_DISTINCT)]
    images = [distinct[index % len(distinct)] for index in range(_TURN_IMAGES[archive.stem])]
    cores = os.cpu_count() or 1
    model = Model.load(archive, streams=cores)
    results = Table("", "engine, images/s", "server, images/s", "ratio", title=archive.stem)
    with tempfile.TemporaryDirectory() as folder, ModelServer(Path(folder), archive) as started:
        server = Server(started.address, started.token)
        peak = 0.0
        for size, in_flight in ((_BULK, 2 * cores), (1, _IN_FLIGHT)):
            what = f"requests of {size}, {in_flight} in flight"
            announce(what)
            bare, served, ratios = by_turns(model.score, server.score, images, size, in_flight)
            spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            results.add_row(what, f"{bare:.1f}", f"{served:.1f}", spread)
            peak = served
        announce("latency")
        idle = np.array([_timed(server.score, image) for image in images[:100]])
        loaded = latencies(server.score, images, peak / 2)
    median, p99 = float(np.median(idle)), float(np.quantile(loaded, 0.99))
    results.add_row(
        "latency: idle median, p99 at half of the peak, ratio",
        f"{median * 1e3:.1f} ms",
        f"{p99 * 1e3:.1f} ms",
        f"{p99 / median:.1f}",
    )
    return results


def _timed(score: Score, image: bytes) -> float:
    started = time.perf_counter()
    score([image])
    return time.perf_counter() - started


if __name__ == "__main__":
    # Imports PyTorch, which the processes of other benchmarks must not load.
    from infra.bench.resnet50 import resnet50_archive

    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        for served in (RELEASED_ARCHIVE, resnet50_archive(Path(temporary))):
            console.print(measure(served, lambda line: console.print(f"[dim]›[/] {line}")))
