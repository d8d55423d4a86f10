"""Reading from a store that withholds some objects: a real client, a store on loopback."""

from __future__ import annotations

import pytest

from moodlake.reasons import Reason, Rejected
from moodlake.scoring.objects import SetupError, SourceError, SourceObject
from moodlake.scoring.s3 import ObjectReader, list_bucket, s3_client


def read(key: str) -> bytes:
    item = SourceObject("bucket", key, "etag", 7, "2026-01-02T03:04:05+00:00")
    return ObjectReader(item.bucket).read(item)


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
    assert reason.is_passing
    assert read("sound.jpg") == b"content"


def test_an_object_of_another_length_than_was_listed_is_not_taken_for_it(store: object) -> None:
    item = SourceObject("bucket", "sound.jpg", "etag", 8, "2026-01-02T03:04:05+00:00")
    with pytest.raises(Rejected, match="7 bytes came of 8") as caught:
        ObjectReader(item.bucket).read(item)
    assert caught.value.reason is Reason.UNREADABLE


def test_expired_credentials_are_named(store: object) -> None:
    with pytest.raises(SetupError, match="ExpiredToken"):
        read("expired.jpg")


def test_a_failing_store_is_no_fault_of_the_object(store: object) -> None:
    with pytest.raises(SourceError, match="InvalidRequest"):
        read("broken.jpg")


def test_a_bucket_that_may_not_be_listed_is_told(store: object) -> None:
    with pytest.raises(SetupError, match="AccessDenied"):
        list(list_bucket(s3_client(), "bucket"))
