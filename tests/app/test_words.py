from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.words import bars, disagreement, of_ten, plain, uncertainty

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@st.composite
def distributions(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(
        st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda given: sum(given) > 0.01)
    )
    total = math.fsum(weights)
    return {EMOTIONS[index]: weight / total for index, weight in enumerate(weights)}


@given(distributions())
def test_ten_people_are_ten_and_near_their_shares(distribution: dict[str, float]) -> None:
    counts = of_ten(distribution)
    assert sum(counts.values()) == 10
    assert all(count > 0 for count in counts.values())
    for name, share in distribution.items():
        assert abs(counts.get(name, 0) - 10 * share) < 1 + 1e-9


def test_what_people_would_say_is_told_in_words() -> None:
    told = uncertainty({"happy": 0.7, "sad": 0.2, "neutral": 0.1}, 0.8)
    assert told.startswith(
        "Of ten people asked, about 7 would say **happy**, 2 **sad**, 1 **neutral**."
    )
    assert "46 % of cases" in told
    assert "0.80 of at most 1.10 nats" in told


@pytest.mark.parametrize(
    ("distribution", "expected"), [([1, 0], 0), ([0.5, 0.5], 0.5), ([0.25] * 4, 0.75)]
)
def test_disagreement_is_that_of_two_who_draw(distribution: list[float], expected: float) -> None:
    assert disagreement(dict(zip("abcd", distribution, strict=False))) == pytest.approx(expected)
    drawn = np.random.default_rng(0).choice(len(distribution), (20_000, 2), p=distribution)
    assert (drawn[:, 0] != drawn[:, 1]).mean() == pytest.approx(expected, abs=0.02)


@given(distributions())
def test_bars_name_every_emotion_beside_its_number(distribution: dict[str, float]) -> None:
    page = bars(distribution)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", page)]
    assert widths == sorted(widths, reverse=True)
    assert all(f"<span>{name}</span>" in page for name in distribution)


@pytest.mark.parametrize("name", ["a_b_c.png", "<b>x</b>.png", "[x](http://y)", ":red[x]", "$x$"])
def test_names_of_files_are_no_markdown(name: str) -> None:
    told = plain(name)
    assert re.sub(r"\\(.)", r"\1", told) == name
    assert not re.search(r"(?<!\\)[][<>_*:$`]", told)
