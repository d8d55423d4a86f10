"""Near-identical images and the splits that keep them together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from moodlake.inference.decoding import decode
from tests.images_made import encode, picture
from training.data_set.splits import Fingerprint, fingerprint, near_identical, sample, stratified


def groups_of(images: list[Image.Image]) -> list[int]:
    prints = [fingerprint(np.asarray(image.convert("RGB"))) for image in images]
    return near_identical(Fingerprint.stack(prints)).tolist()


def test_copies_in_other_sizes_and_qualities_are_one_image() -> None:
    original = picture(1, 120, 90)
    again = decode(encode(original, "JPEG", quality=40)).pixels
    copies = [
        original,
        original.resize((60, 45)),
        Image.fromarray(again),
        ImageEnhance.Brightness(original).enhance(0.9),
    ]
    groups = groups_of([*copies, *(picture(seed, 120, 90) for seed in range(2, 40))])
    assert len(set(groups[:4])) == 1
    assert len(set(groups)) == 1 + 38


def test_blank_images_do_not_break_it() -> None:
    assert len(groups_of([Image.new("L", (30, 30), shade) for shade in (0, 128, 255)])) == 3


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=8, max_size=80)


@given(rows, st.integers(0, 5))
def test_no_group_crosses_the_split(pairs: list[tuple[int, int]], seed: int) -> None:
    groups, leading = np.array(pairs).T
    splits = np.array(stratified(groups, leading, 0.2, seed))
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    assert stratified(groups, leading, 0.2, seed) == splits.tolist()
    assert "train" in splits


def test_emotions_keep_their_proportions() -> None:
    leading = np.repeat([0, 1, 2], [700, 250, 50])
    splits = np.array(stratified(np.arange(1000), leading, 0.2, 0))
    for emotion, count in ((0, 140), (1, 50), (2, 10)):
        assert ((splits == "valid") & (leading == emotion)).sum() == pytest.approx(count, abs=1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(1, 400))
def test_a_sample_keeps_every_stratum_and_its_proportion(strata: list[int], limit: int) -> None:
    chosen = sample(strata, limit, 0)
    assert chosen == sorted(set(chosen))
    assert {strata[position] for position in chosen} == set(strata)
    assert len(chosen) <= min(len(strata), limit + len(set(strata)))
    for stratum in set(strata):
        count = sum(strata[position] == stratum for position in chosen)
        whole = strata.count(stratum)
        assert abs(count - min(1, limit / len(strata)) * whole) <= 1


def test_a_sample_with_room_for_all_is_all() -> None:
    assert sample(["a", "b", "a"], 3, 0) == [0, 1, 2]
