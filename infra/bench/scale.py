"""Benchmark of growth with the number of images: time, memory, planning.

`python -m infra.bench.scale` starts and stops its own services. Goals: from 1,000 to 100,000 small
images, time grows with an exponent of at most 1.05, and the peak memory of a task by less than
10 %; planning a run over 1,000,000 scored keys takes less than a minute.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from infra.bench.images import encoded
from infra.bench.score import BUCKET, fill, services
from infra.bench.tasks import KINDS, BucketScoring, as_airflow, peak_memory, tasks
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import results_schema
from moodlake.serving.client import ServerClient, connect
from moodlake.settings import Settings

_COUNTS = (1_000, 10_000, 100_000)
_KNOWN = 1_000_000
_COMMIT = 100_000
_SIZE = 48
_DISTINCT = 50
_INVENTORY = "inventory/"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def grow(announce: Callable[[str], None], out: Table) -> None:
    """Score growing numbers of small images, each number with new processes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (_DISTINCT, _SIZE, _SIZE), dtype=np.uint8)
    images = [encoded(Image.fromarray(pixels)) for pixels in noise]
    taken: list[BucketScoring] = []
    for count in _COUNTS:
        prefix = f"{count}/"
        announce(f"uploading {count:,} small images")
        fill(prefix, images, count)
        with tasks() as processes:
            # Exclude imports and first requests, which do not grow.
            fill(f"warm-{prefix}", images, 64)
            params = RunParams(BUCKET, prefix, faces="none", batch_size=64)
            warm = replace(params, prefix=f"warm-{prefix}", shard_size=16)
            processes.score_bucket(warm)
            taken.append(processes.score_bucket(params))
        announce(f"{count:,} in {taken[-1].seconds:.1f} s")
        out.add_row(f"{count:,} small images, s", f"{taken[-1].seconds:.1f}")
        planning = json.loads(taken[-1].record["seconds"])["plan"]
        out.add_row("  including listing and planning, s", f"{planning:.1f}")
    seconds = [each.seconds for each in taken]
    slope = np.polyfit(np.log(_COUNTS), np.log(seconds), 1)[0]
    out.add_row("exponent of the time (goal at most 1.05)", f"{slope:.3f}")
    for kind in KINDS:
        first, last = taken[0].memory[kind], taken[-1].memory[kind]
        change = f"{first:.0f} -> {last:.0f} ({last / first - 1:+.1%})"
        out.add_row(f"peak memory of a task ({kind}), MB (goal below +10 %)", change)


def plan_known(announce: Callable[[str], None], out: Table) -> None:
    """Plan from an S3 Inventory whose keys all have a row."""
    model = connect(Settings.from_environment())
    table = ResultsTable(Settings.from_environment().results_table)
    announce(f"creating {_KNOWN:,} rows and their inventory")
    for start in range(0, _KNOWN, _COMMIT):
        table.commit(_rows(start, model), [])
    manifest = _write_inventory()
    with multiprocessing.get_context("spawn").Pool(1, as_airflow) as pool:
        shards, seconds, memory = pool.apply(_plan, (manifest,))
    assert not shards, "every key has a row"
    out.add_row(f"planning over {_KNOWN:,} scored keys, s (goal below 60)", f"{seconds:.1f}")
    out.add_row("  peak memory, MB", f"{memory:.0f}")


def _plan(manifest: str) -> tuple[list[str], float, float]:
    params = RunParams(BUCKET, prefix="known/", inventory=manifest)
    started = time.perf_counter()
    shards = pipeline.plan_run("bench-known", params, Settings.from_environment())
    seconds = time.perf_counter() - started
    return shards, seconds, peak_memory()


def _listing(start: int) -> dict[str, pa.Array]:
    """Return keys, ETags, sizes and times of the objects of one commit."""
    numbers = range(start, start + _COMMIT)
    return {
        "key": pa.array([f"known/{number:08d}.jpg" for number in numbers]),
        "etag": pa.array([f"{number:032x}" for number in numbers]),
        "size": pa.array([40_000] * _COMMIT, pa.int64()),
        "changed": pa.array([_FIRST + timedelta(days=start // _COMMIT)] * _COMMIT),
    }


def _rows(start: int, model: ServerClient) -> pa.Table:
    """Return result rows of these objects, with the columns that planning and commits read."""
    listing, schema = _listing(start), results_schema(model.space)
    day = listing["changed"].cast(pa.timestamp("us", "UTC"))
    known = {
        **{name: listing[name] for name in ("key", "etag", "size")},
        "bucket": pa.array([BUCKET] * _COMMIT),
        "status": pa.array(["scored"] * _COMMIT),
        "model_digest": pa.array([model.identity.digest] * _COMMIT),
        "scored_at": day,
        "data_date": day.cast(pa.date32()),
    }
    columns = [known.get(field.name, pa.nulls(_COMMIT, field.type)) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _write_inventory() -> str:
    """Write an inventory in Parquet, as S3 does; return the URI of its manifest."""
    client, files = s3_client(), []
    for start in range(0, _KNOWN, _COMMIT):
        listing = _listing(start)
        table = pa.table(
            {
                "bucket": pa.array([BUCKET] * _COMMIT),
                "key": listing["key"],
                "size": listing["size"],
                "last_modified_date": listing["changed"].cast(pa.timestamp("ms", "UTC")),
                "e_tag": listing["etag"],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        files.append({"key": f"{_INVENTORY}{start:08d}.parquet"})
        client.put_object(Bucket=BUCKET, Key=files[-1]["key"], Body=buffer.getvalue())
    manifest = {
        "sourceBucket": BUCKET,
        "destinationBucket": f"arn:aws:s3:::{BUCKET}",
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { bucket key size last_modified_date e_tag }",
        "files": files,
    }
    body = json.dumps(manifest).encode()
    client.put_object(Bucket=BUCKET, Key=f"{_INVENTORY}manifest.json", Body=body)
    return f"s3://{BUCKET}/{_INVENTORY}manifest.json"


def measure(announce: Callable[[str], None]) -> Table:
    """Run the benchmark; return the table of results."""
    out = Table("", "measured", title="moodlake bench: growth")
    with services(announce):
        grow(announce, out)
        plan_known(announce, out)
    return out


if __name__ == "__main__":
    console = Console()
    console.print(measure(lambda line: console.print(f"[dim]›[/] {line}")))
