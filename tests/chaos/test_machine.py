"""Faults of the machine: a full disk and a clock that jumps."""

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
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services

pytestmark = pytest.mark.e2e

_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder])
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def enlarge(disk: Path) -> None:
    """Enlarge the disk to 64 MB."""
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def test_a_full_work_disk_is_reported_and_survived(
    services: Services, undisturbed: pd.DataFrame, disk: Path
) -> None:
    """A plan that exceeds memory spills to TMPDIR."""
    (disk / "full").write_bytes(bytes(60_000))
    scheduler = Scheduler({**services.environment("full-work"), "TMPDIR": str(disk)})
    outcome = scheduler.attempt("plan_run", "full", SHARED)
    assert outcome
    assert outcome.is_user_error
    assert "TMPDIR" in outcome.error
    enlarge(disk)
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(services.settings("full-work")), undisturbed)


@pytest.mark.parametrize("step", ["score_shard", "publish"])
def test_a_full_results_disk_is_reported_and_survived(
    services: Services, undisturbed: pd.DataFrame, disk: Path, step: str
) -> None:
    """A table in a folder loses no rows to a full disk."""
    settings = Settings(results_uri=str(disk / "results"))
    environment = services.environment("none") | {"MOODLAKE_RESULTS_URI": settings.results_uri}
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
    assert outcome.is_user_error
    assert "No space left" in outcome.error
    (disk / "full").unlink()
    enlarge(disk)
    scheduler.until_done("after", SHARED)
    assert_same(rows_of(settings), undisturbed)


@pytest.mark.skipif(_FAKETIME is None, reason="no libfaketime: apt-get install libfaketime")
def test_clock_jumps_during_a_task_change_no_row(
    services: Services, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """The jumps stay below the 15 minutes that S3 allows between its clock and a client's."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    stop = threading.Event()

    def jump() -> None:
        rng = random.Random(1)
        while not stop.wait(0.2):
            part = offset.with_suffix(".part")
            part.write_text(f"{rng.randint(-10, 10):+d}m")
            part.replace(offset)

    jumper = threading.Thread(target=jump)
    jumper.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.task", "clock", json.dumps(asdict(SHARED))],
            env={
                **os.environ,
                **services.environment("clock"),
                "LD_PRELOAD": str(_FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(offset),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
            capture_output=True,
            text=True,
        )
    finally:
        stop.set()
        jumper.join()
    assert done.returncode == 0, done.stderr
    assert_same(rows_of(services.settings("clock")), undisturbed)
