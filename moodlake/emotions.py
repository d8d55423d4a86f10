"""Label spaces and distributions over them.

A *label space* names the emotions in a fixed order. A *distribution* is an array whose last
axis runs over those emotions, holds values in [0, 1] and sums to 1.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUM_TOLERANCE = 1e-3
NEUTRAL = "neutral"


@dataclass(frozen=True)
class LabelSpace:
    """A named, ordered set of emotions.

    Raises:
        ValueError: fewer than two emotions, a repeated one, or one that cannot be a column name.
    """

    name: str
    emotions: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.emotions) < 2:
            raise ValueError(f"label space {self.name!r} needs at least two emotions")
        if len(set(self.emotions)) != len(self.emotions):
            raise ValueError(f"label space {self.name!r} repeats an emotion: {self.emotions}")
        for emotion in self.emotions:
            if not emotion.isidentifier():
                raise ValueError(
                    f"label space {self.name!r}: {emotion!r} cannot be a table column; "
                    "use letters, digits and underscores"
                )

    def __len__(self) -> int:
        return len(self.emotions)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From `name` and `emotions`, as bundles, servers and runs write them."""
        return cls(values["name"], tuple(values["emotions"]))

    def index(self, emotion: str) -> int:
        """Position of `emotion`; ValueError names the emotions of the space if it is not one."""
        if emotion not in self.emotions:
            raise ValueError(f"{emotion!r} is not in {self.name}: {', '.join(self.emotions)}")
        return self.emotions.index(emotion)


@cache
def _file() -> dict[str, Any]:
    text = resources.files("moodlake").joinpath("label_spaces.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _known_spaces() -> dict[str, LabelSpace]:
    return {
        name: LabelSpace(name, tuple(entry["emotions"]))
        for name, entry in _file()["spaces"].items()
    }


@cache
def _synonyms() -> dict[str, str]:
    """Each name of an emotion that has several -> the first of them."""
    return {name: names[0] for names in _file()["synonyms"] for name in names}


def label_space_names() -> list[str]:
    """The names in label_spaces.toml."""
    return sorted(_known_spaces())


def label_space(name: str) -> LabelSpace:
    """The label space called `name` in label_spaces.toml; ValueError lists those there are."""
    spaces = _known_spaces()
    if name not in spaces:
        raise ValueError(f"unknown label space {name!r}; known: {', '.join(label_space_names())}")
    return spaces[name]


def from_votes(votes: ArrayLike) -> NDArray[np.float64]:
    """Distributions from annotators' votes.

    Args:
        votes: (..., E) non-negative counts, one column an emotion.

    Returns:
        (..., E) float64; each row sums to 1.

    Raises:
        ValueError: a negative or non-finite count, or a row with no vote left (named by number).
    """
    counts = np.array(votes, dtype=np.float64)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("votes must be finite counts of 0 or more")
    totals = counts.sum(axis=-1, keepdims=True)
    if (totals == 0).any():
        rows = np.flatnonzero(totals.reshape(-1) == 0)[:5].tolist()
        raise ValueError(f"no votes left to make a distribution of in rows {rows}")
    return counts / totals


def without_neutral(
    space: LabelSpace, distributions: ArrayLike
) -> tuple[LabelSpace, NDArray[np.float64]]:
    """The other emotions alone; what is left of a row (N, E) sums to 1 again, or to 0."""
    kept = [index for index, emotion in enumerate(space.emotions) if emotion != NEUTRAL]
    left = np.asarray(distributions, dtype=np.float64)[:, kept]
    total = left.sum(axis=1, keepdims=True)
    scaled = np.divide(left, total, out=np.zeros_like(left), where=total > 0)
    return LabelSpace(f"{space.name}_basic", tuple(space.emotions[i] for i in kept)), scaled


def in_space(
    distributions: ArrayLike, source: LabelSpace, target: LabelSpace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same distributions told in the emotions of another space.

    Emotions are matched by name or synonym. Those that `target` lacks are left out and the rest
    scaled to sum to 1 again; those that only `target` has get 0.

    Args:
        distributions: (..., E) over `source`.

    Returns:
        The distributions (..., E') over `target`, and (...) how much of each it could tell, 0 to
        1. Where that is 0, all emotions are equal; near 0 the distribution says little.
    """
    given = np.asarray(distributions, dtype=np.float64)
    same = _synonyms()
    places = {same.get(name, name): index for index, name in enumerate(target.emotions)}
    told = np.zeros((*given.shape[:-1], len(target)))
    for index, name in enumerate(source.emotions):
        place = places.get(same.get(name, name))
        if place is not None:
            told[..., place] = given[..., index]
    share = told.sum(axis=-1, keepdims=True)
    scaled = np.divide(told, share, out=np.full_like(told, 1 / len(target)), where=share > 0)
    return scaled, share[..., 0]


def shared_space(source: LabelSpace, target: LabelSpace) -> LabelSpace:
    """The emotions of `target` that `source` has too, by name or synonym; `target` if it is all.

    Raises:
        ValueError: fewer than two, so that there is no distribution to tell in both.
    """
    same = _synonyms()
    known = {same.get(name, name) for name in source.emotions}
    both = tuple(name for name in target.emotions if same.get(name, name) in known)
    if len(both) < 2:
        raise ValueError(
            f"{source.name} ({', '.join(source.emotions)}) and {target.name} "
            f"({', '.join(target.emotions)}) share fewer than two emotions and cannot be compared"
        )
    return target if both == target.emotions else LabelSpace(f"{target.name}_shared", both)


def dominant(distribution: ArrayLike, space: LabelSpace) -> str:
    """The most probable emotion of one distribution (E,); the first one on a tie."""
    return space.emotions[int(np.argmax(np.asarray(distribution)))]


def entropy(distributions: ArrayLike) -> NDArray[np.float64]:
    """Shannon entropy in nats, over the last axis: 0 when certain, log(E) when all are equal."""
    p = np.asarray(distributions, dtype=np.float64)
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1) + 0.0


def jensen_shannon_distance(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """How far distributions (..., E) lie apart: 0 where equal, 1 where they share nothing.

    The square root of the Jensen-Shannon divergence in bits (Lin, "Divergence Measures Based on
    the Shannon Entropy", IEEE Trans. Inf. Theory 1991); it is a metric (Endres & Schindelin, "A
    New Metric for Probability Distributions", ibid. 2003).

    Returns:
        (...) distances over the last axis.
    """
    p, q = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    divergence = (_bits_from_middle(p, q) + _bits_from_middle(q, p)) / 2
    return np.sqrt(np.clip(divergence, 0, 1))


def _bits_from_middle(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(p || (p + q) / 2) over the last axis."""
    ratio = np.divide(2 * p, p + q, out=np.ones_like(p), where=p > 0)
    return np.sum(p * np.log2(ratio), axis=-1)
