from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from moodlake.emotions import (
    LabelSpace,
    dominant,
    entropy,
    from_votes,
    in_space,
    jensen_shannon_distance,
    label_space,
    label_space_names,
    shared_space,
)

Array = NDArray[np.float64]
FERPLUS = label_space("ferplus")
votes = st.lists(st.integers(0, 10), min_size=8, max_size=8).filter(any)


@given(votes)
def test_votes_become_a_distribution_in_proportion(row: list[int]) -> None:
    distribution = from_votes(row)
    assert distribution.sum() == pytest.approx(1)
    assert distribution == pytest.approx(np.array(row) / sum(row))


@given(votes)
def test_entropy_lies_between_certainty_and_indifference(row: list[int]) -> None:
    assert 0 <= entropy(from_votes(row)) <= math.log(8) + 1e-9


def test_entropy_of_the_extremes() -> None:
    assert entropy(np.eye(4)[0]) == 0
    assert entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))


@pytest.mark.parametrize("row", [[0, 0], [-1, 3], [math.nan, 1], [math.inf, 1]])
def test_invalid_votes_are_an_error(row: list[float]) -> None:
    with pytest.raises(ValueError, match="votes"):
        from_votes(row)


def test_rows_without_votes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        from_votes([[1, 0], [0, 0]])


def test_dominant_is_the_first_on_a_tie() -> None:
    assert dominant([0.5, 0.5, 0], label_space("mood3")) == "happy"


def test_label_spaces_are_checked() -> None:
    assert "neutral" in label_space("emotion6").emotions
    with pytest.raises(ValueError, match="known: "):
        label_space("emotion7")
    with pytest.raises(ValueError, match="repeats"):
        LabelSpace("mine", ("calm", "calm"))
    with pytest.raises(ValueError, match="table column"):
        LabelSpace("mine", ("very calm", "tense"))


@given(
    st.sampled_from(label_space_names()),
    st.sampled_from(label_space_names()),
    st.randoms(use_true_random=False),
)
def test_a_converted_distribution_is_a_distribution(
    source_name: str, target_name: str, random: Random
) -> None:
    source, target = label_space(source_name), label_space(target_name)
    weights = np.array([random.random() for _ in source.emotions]) + 1e-6
    converted, share = in_space(weights / weights.sum(), source, target)
    assert converted.shape == (len(target),)
    assert converted.sum() == pytest.approx(1)
    assert converted.min() >= 0
    assert 0 <= share <= 1 + 1e-9


def test_emotions_are_matched_by_name_or_synonym() -> None:
    ferplus, moods = label_space("ferplus"), label_space("mood3")
    values = dict.fromkeys(ferplus.emotions, 0.0) | {
        "happiness": 0.3,
        "sadness": 0.1,
        "neutral": 0.4,
        "contempt": 0.2,
    }
    converted, share = in_space(list(values.values()), ferplus, moods)
    assert dict(zip(moods.emotions, converted.tolist(), strict=True)) == pytest.approx(
        {"happy": 0.75, "sad": 0.25, "angry": 0}
    )
    assert share == pytest.approx(0.4)
    nothing_left, share = in_space([1.0, *[0.0] * 7], ferplus, moods)
    assert (nothing_left.tolist(), float(share)) == ([pytest.approx(1 / 3)] * 3, 0)


distributions = votes.map(from_votes)


@given(distributions, distributions, distributions)
def test_the_distance_of_distributions_is_a_metric(p: Array, q: Array, r: Array) -> None:
    there, on, straight = jensen_shannon_distance([p, q, p], [q, r, r])
    assert straight <= there + on + 1e-7
    assert there == pytest.approx(jensen_shannon_distance(q, p))
    assert there == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    assert jensen_shannon_distance(p, p) == 0
    assert 0 <= there <= 1


def test_distributions_that_share_nothing_are_one_apart() -> None:
    assert jensen_shannon_distance([1, 0], [0, 1]) == 1


def test_shared_emotions_are_found_by_synonym() -> None:
    shared = shared_space(label_space("fer2013"), FERPLUS)
    assert shared.emotions == tuple(name for name in FERPLUS.emotions if name != "contempt")
    assert shared_space(FERPLUS, label_space("mood3")) == label_space("mood3")
    with pytest.raises(ValueError, match="fewer than two"):
        shared_space(FERPLUS, LabelSpace("two", ("bored", "fear")))
