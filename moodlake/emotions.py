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
        """Read the keys `name` and `emotions`, as in bundles, servers' answers and run records."""
        return cls(values["name"], tuple(values["emotions"]))

    def index(self, emotion: str) -> int:
        """Return the position of `emotion`.

        Raises:
            ValueError: the space has no such emotion; the message lists those it has.
        """
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
    """Return a mapping of each synonym to the first name of its emotion."""
    return {name: names[0] for names in _file()["synonyms"] for name in names}


def label_space_names() -> list[str]:
    """Return the names of the label spaces in label_spaces.toml, sorted."""
    return sorted(_known_spaces())


def label_space(name: str) -> LabelSpace:
    """Return a label space of label_spaces.toml.

    Raises:
        ValueError: there is none of this name; the message lists the names.
    """
    spaces = _known_spaces()
    if name not in spaces:
        raise ValueError(f"unknown label space {name!r}; known: {', '.join(label_space_names())}")
    return spaces[name]


def from_votes(votes: ArrayLike) -> NDArray[np.float64]:
    """Turn annotators' votes into distributions.

    Args:
        votes: (..., E) non-negative counts, one column per emotion.

    Returns:
        (..., E) float64; each row sums to 1.

    Raises:
        ValueError: a count is negative or not finite, or a row has no votes; the message gives the
            numbers of these rows.
    """
    counts = np.array(votes, dtype=np.float64)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("votes must be finite counts of 0 or more")
    totals = counts.sum(axis=-1, keepdims=True)
    if (totals == 0).any():
        rows = np.flatnonzero(totals.reshape(-1) == 0)[:5].tolist()
        raise ValueError(f"rows {rows} have no votes, and so no distribution")
    return counts / totals


def without_neutral(
    space: LabelSpace, distributions: ArrayLike
) -> tuple[LabelSpace, NDArray[np.float64]]:
    """Drop neutral and scale each row (N, E) to sum to 1 again, or to 0 if it was all neutral."""
    kept = [index for index, emotion in enumerate(space.emotions) if emotion != NEUTRAL]
    others = np.asarray(distributions, dtype=np.float64)[:, kept]
    total = others.sum(axis=1, keepdims=True)
    scaled = np.divide(others, total, out=np.zeros_like(others), where=total > 0)
    return LabelSpace(f"{space.name}_basic", tuple(space.emotions[i] for i in kept)), scaled


def in_space(
    distributions: ArrayLike, source: LabelSpace, target: LabelSpace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert distributions to another label space.

    Emotions match by name or synonym. Those that `target` lacks are dropped and the others scaled
    to sum to 1 again; those that only `target` has get 0.

    Args:
        distributions: (..., E) over `source`.

    Returns:
        The distributions (..., E') over `target`, and (...) the share of each, 0 to 1, that was
        not dropped. With a share of 0 all emotions are equally probable; near 0 the distribution
        means little.
    """
    given = np.asarray(distributions, dtype=np.float64)
    first_name = _synonyms()
    columns = {first_name.get(name, name): index for index, name in enumerate(target.emotions)}
    matched = np.zeros((*given.shape[:-1], len(target)))
    for index, name in enumerate(source.emotions):
        column = columns.get(first_name.get(name, name))
        if column is not None:
            matched[..., column] = given[..., index]
    share = matched.sum(axis=-1, keepdims=True)
    uniform = np.full_like(matched, 1 / len(target))
    return np.divide(matched, share, out=uniform, where=share > 0), share[..., 0]


def shared_space(source: LabelSpace, target: LabelSpace) -> LabelSpace:
    """Return the emotions of `target` that `source` has, too, by name or synonym.

    Returns:
        `target` itself if it shares all its emotions.

    Raises:
        ValueError: they share fewer than two emotions, too few for a distribution.
    """
    first_name = _synonyms()
    known = {first_name.get(name, name) for name in source.emotions}
    both = tuple(name for name in target.emotions if first_name.get(name, name) in known)
    if len(both) < 2:
        raise ValueError(
            f"{source.name} ({', '.join(source.emotions)}) and {target.name} "
            f"({', '.join(target.emotions)}) share fewer than two emotions and cannot be compared"
        )
    return target if both == target.emotions else LabelSpace(f"{target.name}_shared", both)


def dominant(distribution: ArrayLike, space: LabelSpace) -> str:
    """Return the most probable emotion of one distribution (E,); the first one on a tie."""
    return space.emotions[int(np.argmax(np.asarray(distribution)))]


def entropy(distributions: ArrayLike) -> NDArray[np.float64]:
    """Return the Shannon entropy over the last axis in nats: 0 if certain, log(E) if uniform."""
    p = np.asarray(distributions, dtype=np.float64)
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1) + 0.0


def jensen_shannon_distance(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the distance of distributions (..., E): 0 if equal, 1 if they share no emotion.

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
    """Return KL(p || (p + q) / 2) over the last axis, in bits."""
    ratio = np.divide(2 * p, p + q, out=np.ones_like(p), where=p > 0)
    return np.sum(p * np.log2(ratio), axis=-1)
