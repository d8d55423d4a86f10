"""Messages of S3, in all the wrappings they come in."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.scoring.events import NoEvent, objects_in
from moodlake.scoring.objects import SourceObject

NEW = SourceObject(
    "photos", "2026/a b+é.jpg", "e1", 10, "2026-01-02T03:04:05.000Z", version_id="v1"
)
RECORD = {
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-01-02T03:04:05.000Z",
    "s3": {
        "bucket": {"name": "photos"},
        "object": {
            "key": "2026/a+b%2B%C3%A9.jpg",
            "size": 10,
            "eTag": "e1",
            "versionId": "v1",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
DIRECT = {"Records": [RECORD]}
THROUGH_SNS = {"Type": "Notification", "Message": json.dumps(DIRECT)}
THROUGH_EVENT_BRIDGE = {
    "detail-type": "Object Created",
    "time": "2026-01-02T03:04:05.000Z",
    "detail": {
        "bucket": {"name": "photos"},
        "object": {"key": "2026/a b+é.jpg", "size": 10, "etag": "e1", "version-id": "v1"},
    },
}


@pytest.mark.parametrize("message", [DIRECT, THROUGH_SNS, THROUGH_EVENT_BRIDGE])
def test_a_new_object_is_read_from_every_wrapping(message: dict[str, Any]) -> None:
    assert objects_in(json.dumps(message)) == [NEW]


def test_a_message_may_tell_of_several_and_of_deletions() -> None:
    deleted = {**RECORD, "eventName": "ObjectRemoved:Delete"}
    message = {"Records": [RECORD, deleted, RECORD]}
    assert objects_in(json.dumps(message)) == [NEW, NEW]


def test_the_test_message_of_s3_tells_of_none() -> None:
    assert objects_in('{"Service": "Amazon S3", "Event": "s3:TestEvent"}') == []


@pytest.mark.parametrize("message", ["", "hello", "[]", "{}", '{"Records": [{}]}', "null", "1"])
def test_what_is_no_message_of_s3_is_told(message: str) -> None:
    with pytest.raises(NoEvent, match="no message of S3"):
        objects_in(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["Records", "detail", "Type", "s3", "eventName"]), inner)
    ),
)


@given(JSON)
def test_nothing_else_is_raised(content: object) -> None:
    with suppress(NoEvent):
        objects_in(json.dumps(content))
