"""Reading from a store that withholds some objects: a real client, a store on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from botocore.client import BaseClient
from moto.server import ThreadedMotoServer

from infra.local.ports import HOST
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.sources import s3
from moodlake.scoring.sources.objects import SetupError, SourceError, SourceObject
from moodlake.scoring.sources.s3 import ObjectReader, list_bucket, s3_client


def read(key: str) -> bytes:
    return ObjectReader("bucket").read(item_of(key))


def item_of(key: str) -> SourceObject:
    return SourceObject("bucket", key, "etag", 7, "2026-01-02T03:04:05+00:00")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("archived.jpg", Reason.UNREADABLE),
        ("denied.jpg", Reason.UNREADABLE),
        ("gone.jpg", Reason.VANISHED),
        ("replaced.jpg", Reason.VANISHED),
    ],
)
def test_one_object_that_is_withheld_is_its_own_matter(
    store: object, key: str, reason: Reason
) -> None:
    with pytest.raises(Rejected) as caught:
        read(key)
    assert caught.value.reason is reason
    assert reason.is_retryable
    assert read("sound.jpg") == b"content"


def test_an_object_of_another_length_than_was_listed_is_not_taken_for_it(store: object) -> None:
    item = SourceObject("bucket", "sound.jpg", "etag", 8, "2026-01-02T03:04:05+00:00")
    with pytest.raises(Rejected, match="S3 returned 7 bytes of 8") as caught:
        ObjectReader(item.bucket).read(item)
    assert caught.value.reason is Reason.UNREADABLE


def test_expired_credentials_are_named(store: object) -> None:
    with pytest.raises(SetupError, match="ExpiredToken"):
        read("expired.jpg")


def test_a_failing_store_is_no_fault_of_the_object(store: object) -> None:
    with pytest.raises(SourceError, match="InvalidRequest"):
        read("broken.jpg")


def test_a_way_that_leads_nowhere_is_left(
    store: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(s3, "_FAILURES", 2)
    monkeypatch.setattr(s3, "_LONGEST_WAIT", 0)
    reader = ObjectReader("bucket")
    for number in range(3):
        assert ("boto3 only" in caplog.text) == (number == 2)
        with pytest.raises(SourceError, match="InvalidRequest"):
            reader.read(item_of("broken.jpg"))
    assert reader.read(item_of("sound.jpg")) == b"content"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseClient]:
    """An S3 that keeps versions, as SeaweedFS does not by default."""
    server = ThreadedMotoServer(HOST, 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield s3_client()
    server.stop()


def test_a_version_that_was_overwritten_is_read_by_its_id(aws: BaseClient) -> None:
    aws.create_bucket(Bucket="versioned")
    enabled = {"Status": "Enabled"}
    aws.put_bucket_versioning(Bucket="versioned", VersioningConfiguration=enabled)
    items = []
    for data in (b"older", b"newer"):
        put = aws.put_object(Bucket="versioned", Key="a.jpg", Body=data)
        etag, version = put["ETag"].strip('"'), put["VersionId"]
        items.append(SourceObject("versioned", "a.jpg", etag, 5, "", version))
    reader = ObjectReader("versioned")
    assert [reader.read(item) for item in items] == [b"older", b"newer"]
    with pytest.raises(Rejected) as caught:
        reader.read(replace(items[0], version_id=None))
    assert caught.value.reason is Reason.VANISHED


def test_a_bucket_that_denies_listing_is_an_error(store: object) -> None:
    with pytest.raises(SetupError, match="AccessDenied"):
        list(list_bucket(s3_client(), "bucket"))
