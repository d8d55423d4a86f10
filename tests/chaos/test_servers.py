"""Servers that are killed while a run needs them, and a bucket that changes under it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from botocore.client import BaseClient

from infra.local.s3 import S3Service
from moodlake.reasons import Reason
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.parts import Parts, kill_all_of, objects, put, restart
from tests.chaos.proxy import FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e


def run_and_hurt(
    parts: Parts, results: str, hurt: Callable[[], None], params: RunParams = SHARED
) -> None:
    """Runs until all is done; `hurt` is called when the first task downloads its tenth object."""
    downloads = 0
    met = threading.Event()

    def count(method: str, path: str) -> bool:
        nonlocal downloads
        downloads += method == "GET" and path.startswith(f"/{params.bucket}/0")
        if downloads == 10:
            met.set()
        return False

    with FaultProxy(parts.s3_port) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.arrived = count
        scheduler = Scheduler(parts.environment(results, proxy.url))
        done = pool.submit(scheduler.until_done, results, params)
        assert met.wait(120)
        hurt()
        done.result()
    assert not scheduler.unclear


@pytest.mark.parametrize("count", [1, 2])
def test_killed_workers_of_torchserve_cost_no_row(
    parts: Parts, undisturbed: pd.DataFrame, count: int
) -> None:
    def hurt() -> None:
        for worker in parts.server.workers()[:count]:
            worker.kill()

    run_and_hurt(parts, f"workers-{count}", hurt)
    assert_same(rows_of(parts.settings(f"workers-{count}")), undisturbed)
    parts.server.torchserve.wait()


def test_a_killed_torchserve_costs_no_row(parts: Parts, undisturbed: pd.DataFrame) -> None:
    def hurt() -> None:
        kill_all_of(parts.server.torchserve)
        restart(parts.server.torchserve)
        parts.server.gateway.wait()

    run_and_hurt(parts, "torchserve", hurt)
    assert_same(rows_of(parts.settings("torchserve")), undisturbed)


def test_a_killed_s3_costs_no_row(parts: Parts, undisturbed: pd.DataFrame) -> None:
    def hurt() -> None:
        kill_all_of(parts.s3)
        restart(parts.s3)

    run_and_hurt(parts, "s3", hurt)
    assert_same(rows_of(parts.settings("s3")), undisturbed)


def test_what_s3_acknowledged_is_there_after_it_was_killed(parts: Parts, s3: BaseClient) -> None:
    """Killed as a process: what it had written lies with the kernel. A power cut is another."""
    s3.create_bucket(Bucket="acknowledged")
    kept = write_until_killed(parts.s3)
    assert len(kept) > 100
    for key, digest in kept.items():
        found = s3.get_object(Bucket="acknowledged", Key=key)["Body"].read()
        assert hashlib.md5(found).hexdigest() == digest, key


def write_until_killed(service: S3Service) -> dict[str, str]:
    """Put objects from four threads and SIGKILL the server meanwhile; MD5 of what it confirmed."""
    kept: dict[str, str] = {}
    client = service.client()

    def write(thread: int) -> None:
        for number in range(100_000):
            key, data = f"{thread}/{number:06d}", jpeg(number)
            try:
                client.put_object(Bucket="acknowledged", Key=key, Body=data)
            except Exception:
                return
            kept[key] = hashlib.md5(data).hexdigest()

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, thread) for thread in range(4)]
        while len(kept) < 200:
            threading.Event().wait(0.01)
        kill_all_of(service)
        for future in writing:
            future.result()
    restart(service)
    return kept


def test_objects_that_come_go_and_change_under_a_run_have_their_rows(
    parts: Parts, s3: BaseClient
) -> None:
    """Each version that stayed has its row; one that went has one that says so, or was scored."""
    s3.create_bucket(Bucket="moving")
    before = objects(60)
    put(s3, "moving", before)

    def hurt() -> None:
        client = s3_client()
        put(client, "moving", objects(10, start=60))
        for number in range(20, 60, 3):
            client.delete_object(Bucket="moving", Key=f"{number:05d}.jpg")
            client.put_object(Bucket="moving", Key=f"{number + 1:05d}.jpg", Body=jpeg(1000))

    params = RunParams("moving", shard_size=12, batch_size=4)
    run_and_hurt(parts, "moving", hurt, params)
    assert Scheduler(parts.environment("settled")).run("settled", params)
    rows, settled = rows_of(parts.settings("moving")), rows_of(parts.settings("settled"))
    there = rows.index.isin(settled.index)
    assert_same(rows[there], settled)
    gone = rows[~there]
    digests = {key: hashlib.md5(data).hexdigest() for key, data in before.items()}
    assert {key: etag for _, key, etag, _ in gone.index}.items() <= digests.items()
    assert (gone["reason"] == str(Reason.VANISHED)).any()
