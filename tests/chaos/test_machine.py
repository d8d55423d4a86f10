"""The machine itself: a disk that is full, a clock that jumps."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from moodlake.settings import Settings
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.parts import Parts
from tests.chaos.scheduler import Scheduler

pytestmark = pytest.mark.e2e

_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, with 64 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place])
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def enlarge(disk: Path) -> None:
    """As much room as is needed."""
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def test_a_full_work_disk_is_told_and_mended(
    parts: Parts, undisturbed: pd.DataFrame, disk: Path
) -> None:
    """TMPDIR, where a plan spills what memory does not hold."""
    (disk / "full").write_bytes(bytes(60_000))
    scheduler = Scheduler({**parts.environment("full-work"), "TMPDIR": str(disk)})
    outcome = scheduler.attempt("plan_run", "full", SHARED)
    assert outcome
    assert outcome.translate_errors
    assert "TMPDIR" in outcome.error
    enlarge(disk)
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(parts.settings("full-work")), undisturbed)


@pytest.mark.parametrize("step", ["score_shard", "publish"])
def test_a_full_results_disk_is_told_and_mended(
    parts: Parts, undisturbed: pd.DataFrame, disk: Path, step: str
) -> None:
    """The table in a folder: at no time is it less than it was."""
    settings = Settings(results_uri=str(disk / "results"))
    environment = parts.environment("none") | {"MOODLAKE_RESULTS_URI": settings.results_uri}
    scheduler = Scheduler(environment)
    shards = scheduler.task("plan_run", "full", SHARED)
    if step == "publish":
        enlarge(disk)
        for shard in shards:
            scheduler.task("score_shard", "full", shard)
    room = os.statvfs(disk)
    (disk / "full").write_bytes(bytes((room.f_bavail - 1) * room.f_bsize))
    outcome = scheduler.attempt(step, "full", *shards[: step == "score_shard"])
    assert outcome
    assert outcome.translate_errors
    assert "No space left" in outcome.error
    (disk / "full").unlink()
    enlarge(disk)
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(settings), undisturbed)


@pytest.mark.skipif(_FAKETIME is None, reason="no libfaketime: apt-get install libfaketime")
def test_a_clock_that_jumps_within_a_task_changes_no_row(
    parts: Parts, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """By less than the quarter of an hour that S3 allows between its clock and a client's."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    over = threading.Event()

    def jump() -> None:
        rng = random.Random(1)
        while not over.wait(0.2):
            part = offset.with_suffix(".part")
            part.write_text(f"{rng.randint(-10, 10):+d}m")
            part.replace(offset)

    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.task", "clock", json.dumps(asdict(SHARED))],
            env={
                **os.environ,
                **parts.environment("clock"),
                "LD_PRELOAD": str(_FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(offset),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
            capture_output=True,
            text=True,
        )
    finally:
        over.set()
        jumping.join()
    assert done.returncode == 0, done.stderr
    assert_same(rows_of(parts.settings("clock")), undisturbed)
