"""Servers killed during a run, and a bucket that changes during one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from botocore.client import BaseClient

from infra.local.s3 import S3Service
from infra.local.torchserve import TorchServeService
from moodlake.reasons import Reason
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.proxy import FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services, kill_service, objects, put, restart
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e


def run_with_fault(
    services: Services, results: str, inject: Callable[[], None], params: RunParams = SHARED
) -> None:
    """Start runs until no objects remain, and call `inject` at the tenth download."""
    downloads = 0
    reached = threading.Event()

    def count(method: str, path: str) -> bool:
        nonlocal downloads
        downloads += method == "GET" and path.startswith(f"/{params.bucket}/0")
        if downloads == 10:
            reached.set()
        return False

    with FaultProxy(services.s3_port) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.on_request = count
        scheduler = Scheduler(services.environment(results, proxy.url))
        done = pool.submit(scheduler.until_done, results, params)
        assert reached.wait(300)
        inject()
        done.result()
    assert not scheduler.unexpected_errors


@pytest.mark.parametrize("count", [1, TorchServeService.WORKERS])
def test_killed_torchserve_workers_lose_no_row(
    services: Services, undisturbed: pd.DataFrame, count: int
) -> None:
    def inject() -> None:
        workers = services.model_server.workers()
        assert len(workers) == TorchServeService.WORKERS
        for worker in workers[:count]:
            worker.kill()

    run_with_fault(services, f"workers-{count}", inject)
    assert_same(rows_of(services.settings(f"workers-{count}")), undisturbed)
    services.model_server.torchserve.wait()


def test_a_killed_torchserve_loses_no_row(services: Services, undisturbed: pd.DataFrame) -> None:
    def inject() -> None:
        kill_service(services.model_server.torchserve)
        restart(services.model_server.torchserve)
        services.model_server.gateway.wait()

    run_with_fault(services, "torchserve", inject)
    assert_same(rows_of(services.settings("torchserve")), undisturbed)


def test_a_killed_s3_loses_no_row(services: Services, undisturbed: pd.DataFrame) -> None:
    def inject() -> None:
        kill_service(services.s3)
        restart(services.s3)

    run_with_fault(services, "s3", inject)
    assert_same(rows_of(services.settings("s3")), undisturbed)


def test_a_killed_s3_keeps_acknowledged_objects(services: Services, s3: BaseClient) -> None:
    """Only the process is killed: the kernel keeps its writes, unlike in a power cut."""
    s3.create_bucket(Bucket="acknowledged")
    kept = write_until_killed(services.s3)
    assert len(kept) > 100
    for key, digest in kept.items():
        found = s3.get_object(Bucket="acknowledged", Key=key)["Body"].read()
        assert hashlib.md5(found).hexdigest() == digest, key


def write_until_killed(service: S3Service) -> dict[str, str]:
    """Kill S3 while four threads put objects; return the MD5 of acknowledged objects, by key."""
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
        kill_service(service)
        for future in writing:
            future.result()
    restart(service)
    return kept


def test_objects_added_deleted_or_changed_during_a_run_have_rows(
    services: Services, s3: BaseClient
) -> None:
    """A version that stays has its row; one that is gone was scored or is `vanished`."""
    s3.create_bucket(Bucket="moving")
    before = objects(36)
    put(s3, "moving", before)

    def inject() -> None:
        client = s3_client()
        put(client, "moving", objects(6, start=36))
        for number in range(15, 36, 3):
            client.delete_object(Bucket="moving", Key=f"{number:05d}.jpg")
            client.put_object(Bucket="moving", Key=f"{number + 1:05d}.jpg", Body=jpeg(1000))

    params = RunParams("moving", shard_size=12, batch_size=4)
    run_with_fault(services, "moving", inject, params)
    assert Scheduler(services.environment("settled")).run("settled", params)
    rows, settled = rows_of(services.settings("moving")), rows_of(services.settings("settled"))
    kept = rows.index.isin(settled.index)
    assert_same(rows[kept], settled)
    gone = rows[~kept]
    digests = {key: hashlib.md5(data).hexdigest() for key, data in before.items()}
    assert {key: etag for _, key, etag, _ in gone.index}.items() <= digests.items()
    assert (gone["reason"] == str(Reason.VANISHED)).any()
