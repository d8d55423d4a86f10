"""S3 notifications in each of their formats, with malformed ones in between."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.scoring.sources.notifications import arrivals

WHEN = "2026-01-02T03:04:05.678Z"
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def record(key: str = "a.jpg", event: str = "ObjectCreated:Put", **item: Any) -> dict[str, Any]:
    content = {"key": quote_plus(key), "eTag": "0f", "size": 12, "sequencer": "00"} | item
    return {
        "eventName": event,
        "eventTime": WHEN,
        "s3": {"bucket": {"name": "photos"}, "object": content},
    }


def message(*records: Any) -> str:
    return json.dumps({"Records": list(records)})


def keys(*messages: str) -> list[str]:
    return arrivals(messages, "photos").listing["key"].to_pylist()


@given(names)
def test_keys_are_decoded(key: str) -> None:
    assert keys(message(record(key))) == [key]


def test_a_notification_holds_all_of_an_object() -> None:
    (row,) = arrivals([message(record(versionId="v1"))], "photos").listing.to_pylist()
    assert row == {
        "key": "a.jpg",
        "version_id": "v1",
        "etag": "0f",
        "size": 12,
        "last_modified": datetime(2026, 1, 2, 3, 4, 5, 678000),
    }


def test_a_repeated_notification_lists_its_object_once() -> None:
    assert keys(message(record(), record()), message(record(), record(eTag="1e"))) == ["a.jpg"] * 2


def test_messages_come_through_sns_and_eventbridge_too() -> None:
    by_sns = json.dumps({"Type": "Notification", "Message": message(record("s n s"))})
    detail = {"bucket": {"name": "photos"}, "object": {"key": "e+b", "etag": "0f", "size": 3}}
    by_eventbridge = json.dumps({"detail-type": "Object Created", "time": WHEN, "detail": detail})
    assert keys(by_sns, by_eventbridge) == ["s n s", "e+b"]


def test_what_tells_of_no_new_object_is_passed_over() -> None:
    removed = record(event="ObjectRemoved:Delete")
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"})
    deleted = json.dumps({"detail-type": "Object Deleted", "detail": {}})
    found = arrivals([message(removed), test_event, deleted], "photos")
    assert (found.listing.num_rows, found.unused) == (0, ())


def test_objects_of_other_buckets_are_unused() -> None:
    found = arrivals([message(record("one"), record("two"))], "elsewhere")
    assert found.listing.num_rows == 0
    assert [letter.reason for letter in found.unused] == 2 * ["bucket is 'photos', not 'elsewhere'"]
    assert keys(*(letter.body for letter in found.unused)) == ["one", "two"]


@pytest.mark.parametrize(
    "bad",
    [
        *(record(size=size) for size in (None, -1, "12", 1.5, float("inf"), 2**70, True)),
        *(record(eTag=etag) for etag in (None, "", 3)),
        record() | {"eventTime": 1234},
        record() | {"eventTime": "yesterday"},
        record() | {"eventTime": "0001-01-01T00:00:00+14:00"},
        record() | {"s3": None},
        record() | {"eventName": None},
        {"s3": {}},
        None,
        ["Records"],
        "text",
    ],
    ids=lambda value: json.dumps(value)[-40:],
)
def test_a_malformed_record_does_not_affect_others(bad: Any) -> None:
    first = message(record("one"), bad, record("two"))
    found = arrivals([first, message(record("three"))], "photos")
    assert found.listing["key"].to_pylist() == ["one", "two", "three"]
    (letter,) = found.unused
    assert json.loads(letter.body) == {"Records": [bad]}


@pytest.mark.parametrize(
    "body", ["", "no JSON", "[]", "3", '{"Records": 3}', '{"Type": "Notification"}', "[" * 100_000]
)
def test_a_malformed_message_is_unused(body: str) -> None:
    found = arrivals([body, message(record())], "photos")
    assert found.listing.num_rows == 1
    (letter,) = found.unused
    assert letter.body == body


def test_however_deep_a_record_is_its_neighbours_are_kept() -> None:
    for depth in range(900, 1100):
        deep = '{"Records": [{"x": ' + "[" * depth + "]" * depth + "}]}"
        found = arrivals([deep, message(record())], "photos")
        assert found.listing.num_rows == 1
        assert len(found.unused) == 1


fields = st.sampled_from(["eventName", "eventTime", "s3", "detail", "time", "Event"])
altered = st.dictionaries(fields, anything | st.datetimes().map(datetime.isoformat)).map(
    lambda changes: record() | changes
)


@pytest.mark.slow
@given(st.lists(anything | altered))
def test_whatever_comes_nothing_fails(records: list[Any]) -> None:
    bodies = [json.dumps({"Records": [*records, record()]}), json.dumps(records)]
    assert keys(*bodies)[-1:] == ["a.jpg"]
