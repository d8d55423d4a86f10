"""A queue that filled up while nobody took from it: one plan reads all, takes what a run can."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.local.server import ModelServer
from moodlake.scoring import pipeline
from moodlake.scoring.run.staging import Staging
from moodlake.settings import Settings
from tests.bundles import write_archive
from tests.scoring.sources.test_notifications import message, record

pytestmark = pytest.mark.e2e

OBJECTS, TWICE, SHARDS = 12_000, 1_200, 5
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("outage")
    with ModelServer(folder / "server", write_archive(folder / "tiny.mar"), workers=1) as server:
        server.gateway.wait()
        yield Settings(
            images_bucket="photos",
            results_uri=str(folder / "results"),
            server_url=server.gateway.url,
            server_keys=server.gateway.keys,
        )


def notification(index: int) -> str:
    event = record(f"{index:06}.jpg", eTag=f"{index:032x}")
    at = BEGAN + timedelta(seconds=index)
    return message(event | {"eventTime": f"{at:%Y-%m-%dT%H:%M:%S}.000Z"})


@pytest.mark.slow
def test_the_oldest_are_taken_once_each_and_the_rest_is_left_to_listings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MAX_SHARDS", SHARDS)
    messages = [notification(index) for index in [*range(OBJECTS), *range(TWICE)]]
    random.Random(0).shuffle(messages)
    shard_ids = pipeline.plan_arrivals("after", messages, settings)
    work = Staging(settings.results_uri, "after")
    run = work.read_run()
    assert len(shard_ids) == SHARDS
    assert run.pending_objects == OBJECTS
    taken = [item.key for shard_id in shard_ids for item in work.read_shard(shard_id).objects]
    assert sorted(taken) == [f"{index:06}.jpg" for index in range(SHARDS * run.params.shard_size)]
