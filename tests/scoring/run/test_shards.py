from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.scoring.run.shards import Shard, pack, shard_id, weight
from moodlake.scoring.sources.objects import SourceObject

ITEM = SourceObject("b", "k", "e", 1, "2026-01-02T03:04:05+00:00")
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


@given(objects, st.integers(1, 10))
def test_each_object_is_in_one_shard_in_order(items: list[SourceObject], size: int) -> None:
    shards = list(pack(items, model_digest="m", shard_size=size))
    assert [item for shard in shards for item in shard.objects] == items
    for shard in shards:
        weights = [weight(item) for item in shard.objects]
        assert sum(weights) <= size or len(weights) == 1


@given(objects, st.integers(1, 10))
def test_a_shard_is_as_full_as_it_may_be(items: list[SourceObject], size: int) -> None:
    shards = list(pack(items, model_digest="m", shard_size=size))
    for shard, after in pairwise(shards):
        assert sum(map(weight, (*shard.objects, after.objects[0]))) > size


def test_large_objects_are_fewer_in_a_shard_and_unreadable_ones_cost_nothing() -> None:
    small, large, huge = (
        [replace(ITEM, key=str(number), size=size) for number in range(60)]
        for size in (20_000, 8 * 2**20, 5 * 2**30)
    )
    lengths = [
        len(next(pack(x, model_digest="m", shard_size=50)).objects) for x in (small, large, huge)
    ]
    assert lengths == [50, 6, 50]


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
    with pytest.raises(ValueError, match="at least 1"):
        list(pack([], model_digest="m", shard_size=0))
