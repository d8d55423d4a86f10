"""Benchmark of the web app: the upload of a photo, and filters over a large table.

Upload: seconds from choosing a file until its bars appear, compared with the same request sent
directly to the server, in Debian's Chromium. Filters: seconds and peak memory of the charts of
1,000,000 rows.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from PIL import Image
from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

from infra.bench.serve import Server
from infra.bench.tasks import peak_memory
from infra.browser import CHROMIUM, MISSING, chromium
from infra.demo import photos
from infra.local.ports import Ports
from infra.local.server import ModelServer
from infra.local.web_app import WebAppService
from moodlake.emotions import entropy, label_space
from moodlake.scoring.tables.queries import Filter, choices, first_rows, overview
from moodlake.scoring.tables.schema import results_schema
from moodlake.settings import RELEASED_ARCHIVE, Settings

_PIXELS = (4000, 3000)
_TURNS = 9
_ROWS, _COMMITS, _DAYS = 1_000_000, 20, 30
_SPACE = label_space("ferplus")
_FILTERS = {
    "all rows": Filter(),
    "one emotion, confidence over 60 %": Filter(emotion="happiness", min_confidence=0.6),
    "a prefix": Filter(prefix="camera-07/"),
    "three days": Filter(
        first_day=datetime(2026, 1, 3, tzinfo=UTC).date(),
        last_day=datetime(2026, 1, 5, tzinfo=UTC).date(),
    ),
}


def photo(number: int) -> bytes:
    """Return a JPEG of 12 megapixels with one face, different for each number."""
    whole = Image.open(io.BytesIO(photos()["photos/astronaut.png"])).convert("RGB")
    width, height = _PIXELS
    image = whole.resize((height, height)).crop((0, 0, width, height))
    image.putpixel((0, 0), (number, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def upload(announce: Callable[[str], None], out: Table) -> None:
    """Measure the bare request and the web app in turns, each with a new photo."""
    files = [photo(number) for number in range(_TURNS + 1)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ModelServer(folder, RELEASED_ARCHIVE) as started:
            settings = Settings(
                results_uri=str(folder / "lake"),
                server_url=started.gateway.url,
                server_keys=started.gateway.keys,
            )
            environment = settings.to_environment()
            with WebAppService(folder / "page", Ports.free().page, environment) as page:
                page.wait()
                announce(f"photos of {len(files[0]) / 1e6:.1f} MB, {_TURNS} turns")
                bare, shown = _by_turns(Server(started.address, started.token), page.url, files)
    limit = 1.5 * np.median(bare) + 0.3
    out.add_row(
        "12-megapixel photo to bars",
        f"{np.median(shown):.2f} s ({min(shown):.2f} to {max(shown):.2f})",
        f"bare request {np.median(bare):.2f} s; at most {limit:.2f} s",
    )


def _by_turns(server: Server, url: str, files: list[bytes]) -> tuple[list[float], list[float]]:
    bare, shown = [], []
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        context = browser.new_context()  # with a cache, like a user's browser
        for number, data in enumerate(files):
            path = Path(temporary, f"{number}.jpg")
            path.write_bytes(data)
            started = time.perf_counter()
            server.score([data])
            middle = time.perf_counter()
            bare.append(middle - started)
            tab = context.new_page()
            tab.goto(url)
            shown.append(_until_bars(tab, path))
            tab.close()
    return bare[1:], shown[1:]  # without the first, which warms up


def _until_bars(tab: Page, path: Path) -> float:
    chooser = tab.locator("input[type=file]")
    chooser.wait_for(state="attached")
    tab.wait_for_timeout(500)
    started = time.perf_counter()
    chooser.set_input_files(path)
    tab.get_by_role("list", name="Emotions").wait_for()
    return time.perf_counter() - started


def filters(announce: Callable[[str], None], out: Table) -> None:
    """Measure the queries of the web app on a table of a million rows, for each filter."""
    announce(f"{_ROWS:,} rows")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(_COMMITS):
            rows = made_rows(_ROWS // _COMMITS, number)
            write_deltalake(folder, rows, mode="append", partition_by=["data_date"])
        DeltaTable(folder).optimize.compact()
        # A new process, so that its peak memory excludes the creation of rows.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            for row in pool.apply(_query, (folder,)):
                out.add_row(*row)


def _query(folder: str) -> list[tuple[str, str, str]]:
    """Time the queries of the web app; return rows of the result table."""
    table, timings = DeltaTable(folder), []
    started = time.perf_counter()
    choices(table)
    timings.append(("values to filter by", f"{time.perf_counter() - started:.2f} s", ""))
    for name, chosen in _FILTERS.items():
        started = time.perf_counter()
        found = overview(table, chosen, math.log(len(_SPACE)))
        middle = time.perf_counter()
        first_rows(table, chosen, "most certain", 200)
        ended = time.perf_counter()
        what = f"{name}: {found.rows:,} of {_ROWS:,} rows"
        taken = f"charts {middle - started:.2f} s, rows {ended - middle:.2f} s"
        timings.append((what, taken, "at most 2 s"))
    timings.append(("peak memory of that process", f"{peak_memory():.0f} MB", "at most 1,000 MB"))
    return timings


def made_rows(count: int, seed: int) -> pa.Table:
    """Return synthetic rows of results with _DAYS dates and 50 prefixes."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(len(_SPACE), 0.4), count)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    days = rng.integers(0, _DAYS, count)
    columns: dict[str, object] = {
        "bucket": ["photos"] * count,
        "key": [f"camera-{n % 50:02d}/{seed:02d}/{n:08d}.jpg" for n in range(count)],
        "etag": [f"{seed:08x}{n:024x}" for n in range(count)],
        "size": rng.integers(10_000, 5_000_000, count),
        "last_modified": [first + timedelta(days=int(day)) for day in days],
        "status": ["scored"] * count,
        "dominant": [_SPACE.emotions[place] for place in shares.argmax(axis=1)],
        "confidence": shares.max(axis=1),
        "entropy": entropy(shares),
        "model_name": ["emotions"] * count,
        "model_version": ["3.2"] * count,
        "model_digest": ["a" * 64] * count,
        "label_space": [_SPACE.name] * count,
        "run_id": [f"run-{seed}"] * count,
        "scored_at": [first + timedelta(days=_DAYS)] * count,
        "data_date": [(first + timedelta(days=int(day))).date() for day in days],
        **dict(zip(_SPACE.emotions, shares.T, strict=True)),
    }
    schema = results_schema(_SPACE)
    return pa.table(
        [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in schema
        ],
        schema=schema,
    )


if __name__ == "__main__":
    console = Console()
    results = Table("", "measured", "goal", title="moodlake bench: web app")

    def announce(line: str) -> None:
        console.print(f"[dim]›[/] {line}")

    filters(announce, results)
    if CHROMIUM:
        upload(announce, results)
    else:
        console.print(f"upload was not measured: {MISSING}")
    console.print(results)
