"""Profiles: summaries of many images that add up in any order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.emotions import label_space
from moodlake.profile import MILLIONTHS, Profile

SPACE = label_space("ferplus")
IMAGE = st.tuples(
    st.lists(st.floats(0.001, 1), min_size=8, max_size=8),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.sampled_from(["no_face", "empty", None]),
)


def profile(images: list[tuple[list[float], float, int, str | None]]) -> Profile:
    """Return the profile of (emotions' weights, brightness, shorter side, reason or None)."""
    scored = [image for image in images if image[3] is None]
    weights = np.array([image[0] for image in scored]).reshape(-1, 8)
    reasons = [image[3] or "scored" for image in images]
    return Profile.of(
        SPACE,
        weights / weights.sum(axis=1, keepdims=True),
        brightness=[image[1] for image in scored],
        sizes=[image[2] for image in scored],
        outcomes={name: reasons.count(name) for name in set(reasons)},
    )


@given(st.lists(st.lists(IMAGE, max_size=6), max_size=5))
def test_profiles_of_parts_add_up_to_that_of_the_whole(parts: list[list]) -> None:
    added = Profile.empty()
    for part in parts:
        added = profile(part) + added
    assert added == profile([image for part in parts for image in part])


@given(st.lists(IMAGE, max_size=12))
def test_every_image_is_counted_once_in_each_field(images: list) -> None:
    made = profile(images)
    scored = sum(image[3] is None for image in images)
    for part in (made.dominant, made.entropy, made.brightness, made.size):
        assert sum(part.values()) == scored
    assert made.images == len(images)
    assert sum(made.rejected().values()) == len(images) - scored
    assert sum(made.emotions.values()) == pytest.approx(scored * MILLIONTHS, abs=8 * len(images))


@given(st.lists(IMAGE, max_size=6))
def test_a_profile_survives_json(images: list) -> None:
    made = profile(images)
    assert Profile.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_values_are_counted_in_the_right_bins() -> None:
    certain, even = np.eye(8)[1], np.full(8, 1 / 8)
    made = Profile.of(SPACE, [certain, even], brightness=[0.0, 0.31, 1.0], sizes=[1, 64, 127, 128])
    assert made.dominant == {"happiness": 1, "neutral": 1}
    assert made.entropy == {"0.0": 1, "0.9": 1}
    assert made.brightness == {"0.0": 1, "0.3": 1, "0.9": 1}
    assert made.size == {"1": 1, "64": 2, "128": 1}
    assert made.images == made.scored == 2
