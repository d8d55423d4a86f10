from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wording import bars, describe, disagreement, escape_markdown, votes_of_ten

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@st.composite
def distributions(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(
        st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda given: sum(given) > 0.01)
    )
    total = math.fsum(weights)
    return {EMOTIONS[index]: weight / total for index, weight in enumerate(weights)}


@given(distributions())
def test_votes_sum_to_ten_and_are_near_their_shares(distribution: dict[str, float]) -> None:
    votes = votes_of_ten(distribution)
    assert sum(votes.values()) == 10
    assert all(count > 0 for count in votes.values())
    for name, share in distribution.items():
        assert abs(votes.get(name, 0) - 10 * share) < 1 + 1e-9


def test_a_distribution_is_described_by_votes_and_disagreement() -> None:
    text = describe({"happy": 0.7, "sad": 0.2, "neutral": 0.1}, 0.8)
    assert text.startswith(
        "Of ten people asked, about 7 would say **happy**, 2 **sad**, 1 **neutral**."
    )
    assert "46 % of cases" in text
    assert "0.80 nats, at most 1.10" in text


@pytest.mark.parametrize(
    ("distribution", "expected"), [([1, 0], 0), ([0.5, 0.5], 0.5), ([0.25] * 4, 0.75)]
)
def test_disagreement_is_the_probability_that_two_draws_differ(
    distribution: list[float], expected: float
) -> None:
    assert disagreement(dict(zip("abcd", distribution, strict=False))) == pytest.approx(expected)
    drawn = np.random.default_rng(0).choice(len(distribution), (20_000, 2), p=distribution)
    assert (drawn[:, 0] != drawn[:, 1]).mean() == pytest.approx(expected, abs=0.02)


@given(distributions())
def test_bars_are_sorted_and_named(distribution: dict[str, float]) -> None:
    page = bars(distribution)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", page)]
    assert widths == sorted(widths, reverse=True)
    assert all(f"<span>{name}</span>" in page for name in distribution)


@pytest.mark.parametrize("name", ["a_b_c.png", "<b>x</b>.png", "[x](http://y)", ":red[x]", "$x$"])
def test_file_names_are_escaped_for_markdown(name: str) -> None:
    escaped = escape_markdown(name)
    assert re.sub(r"\\(.)", r"\1", escaped) == name
    assert not re.search(r"(?<!\\)[][<>_*:$`]", escaped)
