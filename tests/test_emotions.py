from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlake.emotions import (
    LabelSpace,
    dominant,
    entropy,
    from_votes,
    label_space,
)

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
def test_bad_votes_are_refused(row: list[float]) -> None:
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
