from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.scoring.inventory import SourceObject
from moodlake.scoring.shards import Shard, plan, shard_id

objects = st.lists(
    st.builds(
        SourceObject,
        bucket=st.just("b"),
        key=st.text(min_size=1, max_size=20),
        etag=st.text("0123456789abcdef", min_size=4, max_size=4),
        size=st.integers(0, 10**9),
        last_modified=st.just("2026-01-02T03:04:05+00:00"),
    ),
    max_size=40,
    unique_by=lambda item: item.identity,
)


@given(objects, st.integers(1, 10), st.data())
def test_a_plan_holds_what_is_not_done_exactly_once(
    items: list[SourceObject], size: int, data: st.DataObject
) -> None:
    done = set(
        data.draw(st.lists(st.sampled_from([item.identity for item in items]))) if items else []
    )
    shards = list(plan(items, model_digest="m", done=done, shard_size=size))
    planned = [item.identity for shard in shards for item in shard.objects]
    assert sorted(planned) == sorted({item.identity for item in items} - done)
    assert all(1 <= len(shard.objects) <= size for shard in shards)


@given(objects, st.randoms())
def test_a_shard_id_does_not_depend_on_the_order(
    items: list[SourceObject], rng: random.Random
) -> None:
    shuffled = items.copy()
    rng.shuffle(shuffled)
    assert shard_id(items, "m") == shard_id(shuffled, "m")
    assert shard_id(items, "m") != shard_id(items, "other model")


@given(objects.filter(bool))
def test_a_shard_survives_being_stored(items: list[SourceObject]) -> None:
    shard = Shard("id", tuple(items))
    assert Shard.from_json(shard.to_json()) == shard


def test_an_empty_shard_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        list(plan([], model_digest="m", done=set(), shard_size=0))
