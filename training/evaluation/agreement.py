"""Agreement between annotators, for comparison with a model's accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DRAWS = 20


def one_against_the_rest(votes: NDArray[np.int64]) -> float:
    """Return how often one annotator agrees with the majority of the others.

    An emotion in a tie of n counts as 1/n.

    Args:
        votes: (N, E) counts; rows with one vote are left out.

    Returns:
        The mean over all annotators of all rows, 0 to 1.
    """
    votes = votes[votes.sum(axis=1) > 1]
    agreed = 0.0
    for emotion in range(votes.shape[1]):
        rest = votes.copy()
        rest[:, emotion] -= 1
        leading = rest == rest.max(axis=1, keepdims=True)
        share = leading[:, emotion] / leading.sum(axis=1)
        agreed += float((votes[:, emotion] * share).sum())
    return agreed / int(votes.sum()) if len(votes) else float("nan")


def half_against_half(votes: NDArray[np.int64], seed: int = 0) -> float:
    """Return how often the majorities of two random halves of the annotators agree.

    Args:
        votes: (N, E) counts; rows with one vote are left out.
        seed: of the random halves; each row is split _DRAWS times.
    """
    rng = np.random.default_rng(seed)
    agreed = []
    for row in votes[votes.sum(axis=1) > 1]:
        first = rng.multivariate_hypergeometric(row, int(row.sum()) // 2, size=_DRAWS)
        tops = [half == half.max(axis=1, keepdims=True) for half in (first, row - first)]
        both = (tops[0] & tops[1]).sum(axis=1)
        agreed.append((both / (tops[0].sum(axis=1) * tops[1].sum(axis=1))).mean())
    return float(np.mean(agreed)) if agreed else float("nan")
