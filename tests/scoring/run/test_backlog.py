"""Objects that a model has not scored yet, oldest first."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodlake.scoring.run.backlog import EXISTING_SCHEMA, Backlog
from moodlake.scoring.sources.objects import LISTING_SCHEMA

START = datetime(2026, 1, 2, 3, 4, 5)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
            "version_id": st.none() | st.just("v1"),
            "etag": st.text("0123456789abcdef", min_size=2, max_size=2),
            "size": st.integers(0, 2**40),
            "last_modified": st.integers(0, 5).map(lambda hours: START + timedelta(hours=hours)),
        }
    ),
    max_size=30,
    unique_by=lambda row: (row["key"], row["etag"]),
)


def pages(listed: list[dict], size: int = 7) -> list[pa.RecordBatch]:
    starts = range(0, len(listed), size)
    return [
        pa.RecordBatch.from_pylist(listed[start : start + size], schema=LISTING_SCHEMA)
        for start in starts
    ]


def done(finished: list[dict], retry: bool = False) -> list[pa.RecordBatch]:
    kept = [{"key": row["key"], "etag": row["etag"], "retry": retry} for row in finished]
    return pa.Table.from_pylist(kept, schema=EXISTING_SCHEMA).to_batches()


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(rows, st.randoms(), st.integers(0, 40))
def test_a_backlog_is_what_is_listed_and_not_done_oldest_first(
    listed: list[dict], rng: random.Random, most: int
) -> None:
    finished = rng.sample(listed, rng.randint(0, len(listed)))
    left = [row for row in listed if row not in finished]
    with Backlog("bucket", pages(listed), done(finished)) as backlog:
        found = list(backlog.oldest(most))
    assert (backlog.listed, backlog.pending_objects) == (len(listed), len(left))
    assert [item.bucket for item in found] == ["bucket"] * min(most, len(left))
    assert {(item.key, item.etag, item.size) for item in found} <= {
        (row["key"], row["etag"], row["size"]) for row in left
    }
    assert [datetime.fromisoformat(item.last_modified).replace(tzinfo=None) for item in found] == (
        sorted(row["last_modified"] for row in left)[:most]
    )


LETTERS = st.sampled_from(["a", "é", "ü", ".", "/", "[", "]", "*", "?", "!", "-", "\\", "\n"])
WORDS = st.lists(LETTERS, min_size=1, max_size=5).map("".join)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.sets(WORDS, max_size=8), WORDS)
def test_a_pattern_chooses_keys(keys: set[str], pattern: str) -> None:
    listed = [
        {"key": key, "etag": "e", "size": 1, "last_modified": START, "version_id": None}
        for key in keys
    ]
    with Backlog("bucket", pages(listed), pattern=pattern) as backlog:
        found = {item.key for item in backlog.oldest(10)}
    assert found == {key for key in keys if fnmatchcase(key, pattern)}


def test_retried_objects_delay_no_new_ones() -> None:
    listed = [
        {"key": f"{n}", "etag": "e", "size": 1, "version_id": None}
        | {"last_modified": START + timedelta(hours=n)}
        for n in range(6)
    ]
    quarantined = [page.select(["key", "etag"]) for page in pages(listed[5:])]
    retried = done(listed[:3], retry=True)
    with Backlog("bucket", pages(listed), retried, quarantined=quarantined) as backlog:
        assert [item.key for item in backlog.oldest(5)] == ["3", "4"]
        assert [item.key for item in backlog.oldest(3, retried=True)] == ["5", "0", "1"]
        assert backlog.pending_objects == 6


def test_keys_of_any_kind_are_kept() -> None:
    keys = ["new\nline", "qu\"o'te", "a b+é%20", "x" * 1024, "\u202eedoc", "🙂"]
    listed = [
        {"key": key, "etag": "e", "size": 1, "last_modified": START, "version_id": None}
        for key in keys
    ]
    with Backlog("bucket", pages(listed), done(listed[:1])) as backlog:
        assert {item.key for item in backlog.oldest(10)} == set(keys[1:])


def test_a_listing_that_fails_leaves_nothing_behind(tmp_path: object) -> None:
    def failing() -> object:
        yield from pages([])
        raise ConnectionError("S3 is gone")

    with pytest.raises(ConnectionError, match="S3 is gone"):
        Backlog("bucket", failing(), folder=tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []  # type: ignore[attr-defined]


def test_an_object_that_is_listed_twice_is_taken_once() -> None:
    twice = {"key": "a", "etag": "e", "size": 1, "last_modified": START, "version_id": None}
    with Backlog("bucket", pages([twice, twice, twice | {"etag": "f"}])) as backlog:
        assert [item.etag for item in backlog.oldest(9)] == ["e", "f"]
