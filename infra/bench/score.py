"""Benchmark of the pipeline against the model server alone, measured in turns.

`python -m infra.bench.score` starts and stops its own services. Goal: from bucket to committed
table at 0.9 of the rate at which the server answers the same images from memory.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.bench.images import encoded, photos_with_faces
from infra.bench.serve import Server, rate
from infra.bench.tasks import Tasks, tasks
from infra.local.ports import HOST, Ports
from infra.stack import Stack
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client

BUCKET = "bench"
_TURNS = 3
_TURN_IMAGES = 4_096
_SERVER_IMAGES = 2_048
_WARMING_IMAGES = 512
_DISTINCT = 100
_BATCH = 16
_IN_FLIGHT = 4
_SHARDS = 20
_PUTS_AT_ONCE = 16


@contextmanager
def services(announce: Callable[[str], None]) -> Iterator[Stack]:
    """Run all services on free ports, and point this process at them."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), Ports.free())
        try:
            stack.start(announce)
            stack.point_here()
            os.environ["AIRFLOW_HOME"] = str(
                stack.airflow.folder
            )  # importing Airflow creates folders
            s3_client().create_bucket(Bucket=BUCKET)
            yield stack
        finally:
            stack.stop()


def fill(prefix: str, images: list[bytes], count: int) -> None:
    """Upload `count` objects to the bucket."""
    client = s3_client()

    def put(index: int) -> None:
        data = images[index % len(images)]
        client.put_object(Bucket=BUCKET, Key=f"{prefix}{index:06d}.jpg", Body=data)

    with ThreadPoolExecutor(_PUTS_AT_ONCE) as pool:
        list(pool.map(put, range(count)))


def over_the_server(
    stack: Stack, processes: Tasks, images: list[bytes], announce: Callable[[str], None], out: Table
) -> None:
    """Measure images per second from bucket to table, and of the server alone.

    The server's rate is the mean of measurements before and after each turn, so that a change in
    the machine's speed affects both.
    """
    server = Server((HOST, stack.ports.gateway), stack.gateway.token)
    batches = [images[start : start + _BATCH] for start in range(0, _SERVER_IMAGES, _BATCH)]
    fill("warming/", images, _WARMING_IMAGES)
    processes.score_bucket(RunParams(BUCKET, "warming/"))
    rates = [rate(server.score, batches, _IN_FLIGHT)]
    pairs = []
    for turn in range(_TURNS):
        fill(f"turn-{turn}/", images, len(images))
        taken = processes.score_bucket(RunParams(BUCKET, f"turn-{turn}/"))
        rates.append(rate(server.score, batches, _IN_FLIGHT))
        pairs.append((sum(rates[-2:]) / 2, taken.objects / taken.seconds))
        announce("server {:.1f}, bucket to table {:.1f} images/s".format(*pairs[-1]))
    ratios = [table / served for served, table in pairs]
    served, table = np.median(pairs, axis=0)
    out.add_row("server, requests of 16 from memory, images/s", f"{served:.1f}")
    out.add_row("bucket to committed table, images/s", f"{table:.1f}")
    spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    out.add_row("ratio (goal 0.9)", spread)
    out.add_row("last turn, s", f"{taken.seconds:.1f}")
    for step, seconds in json.loads(taken.record["seconds"]).items():
        out.add_row(f"  {step}, all tasks and threads", f"{seconds:.1f}")


def over_the_tasks(stack: Stack, processes: Tasks, images: list[bytes], out: Table) -> None:
    """Measure Airflow's overhead per shard: runs of shards of one image, with and without it."""
    for prefix in ("bare/", "airflow/"):
        fill(prefix, images, _SHARDS)
    bare = processes.score_bucket(RunParams(BUCKET, "bare/", shard_size=1)).seconds
    conf = {"bucket": BUCKET, "prefix": "airflow/", "shard_size": 1}
    started = time.perf_counter()
    stack.airflow.follow(stack.airflow.client.trigger("score_images", conf), lambda line: None)
    scheduled = time.perf_counter() - started
    out.add_row(f"{_SHARDS} shards of one image without Airflow, s", f"{bare:.1f}")
    out.add_row(f"{_SHARDS} shards of one image as a DAG, s", f"{scheduled:.1f}")
    out.add_row("Airflow's overhead per shard, s", f"{(scheduled - bare) / _SHARDS:.2f}")


def measure(announce: Callable[[str], None]) -> Table:
    """Run the benchmark; return the table of results."""
    distinct = [encoded(photo) for photo in photos_with_faces(_DISTINCT)]
    images = [distinct[index % len(distinct)] for index in range(_TURN_IMAGES)]
    out = Table("", "measured", title="moodlake bench: from bucket to table")
    with services(announce) as stack, tasks() as processes:
        over_the_server(stack, processes, images, announce, out)
        announce("shards of one image")
        over_the_tasks(stack, processes, distinct, out)
    return out


if __name__ == "__main__":
    console = Console()
    console.print(measure(lambda line: console.print(f"[dim]›[/] {line}")))
