"""Ratios measured side by side in one run: what the pipeline costs over the bare model.

`python -m infra.bench.score` starts its own S3 and TorchServe, and stops them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.bench.images import encoded, photos_with_faces
from infra.local.ports import Ports
from infra.local.stack import Stack
from moodlake.model import Model
from moodlake.scoring import pipeline
from moodlake.scoring.s3 import s3_client
from moodlake.scoring.work import RunParams
from moodlake.settings import RELEASED_ARCHIVE, Settings

IMAGES = 2_000
_MEMORY_IMAGES = (500, 5_000)
_BATCH = 16
_DISTINCT = 100


def in_process(images: list[bytes]) -> float:
    """Images per second of the bare model with as many threads as cores."""
    cores = os.cpu_count() or 1
    model = Model.load(RELEASED_ARCHIVE, streams=cores)
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(model.score, batches[:cores]))
        started = time.perf_counter()
        list(pool.map(model.score, batches))
        return len(images) / (time.perf_counter() - started)


def through_the_pipeline(bucket: str) -> tuple[float, float]:
    """(images per second, peak resident memory in MB) of the scoring task's own code."""
    settings = Settings.from_environment()
    run_id = f"bench-{bucket}"
    shards = pipeline.plan_run(run_id, RunParams(bucket, shard_size=10**6), settings)
    started = time.perf_counter()
    scored = sum(pipeline.score_shard(run_id, shard, settings) for shard in shards)
    seconds = time.perf_counter() - started
    return scored / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(bucket: str, images: list[bytes], count: int) -> None:
    """Put `count` objects into a new bucket."""
    client = s3_client()
    client.create_bucket(Bucket=bucket)

    def put(index: int) -> None:
        client.put_object(Bucket=bucket, Key=f"{index:06d}.jpg", Body=images[index % len(images)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))


def measure(announce: Callable[[str], None]) -> Table:
    """Run everything; returns the table of results."""
    images = [encoded(photo) for photo in photos_with_faces(_DISTINCT)]
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), Ports.free())
        try:
            for service in (stack.s3, stack.torchserve, stack.front):
                service.start()
                announce(f"{service.name}: {service.wait()}")
            stack.point_here()
            announce(f"{IMAGES} images in process")
            bare = in_process([images[index % len(images)] for index in range(IMAGES)])
            memory = {}
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                for count in (IMAGES, *_MEMORY_IMAGES):
                    announce(f"{count} images through the pipeline")
                    fill(f"bench-{count}", images, count)
                    rate, peak = pool.apply(through_the_pipeline, (f"bench-{count}",))
                    memory[count] = peak
                    if count == IMAGES:
                        piped = rate
        finally:
            stack.stop()
    results = Table("what", "measured", title="moodlake bench")
    results.add_row("in process, images/s", f"{bare:.1f}")
    results.add_row("bucket -> TorchServe -> rows, images/s", f"{piped:.1f}")
    results.add_row("ratio (goal 0.7)", f"{piped / bare:.2f}")
    for count in _MEMORY_IMAGES:
        results.add_row(f"peak memory of the task at {count} images, MB", f"{memory[count]:.0f}")
    return results


if __name__ == "__main__":
    console = Console()
    console.print(measure(lambda line: console.print(f"[dim]›[/] {line}")))
