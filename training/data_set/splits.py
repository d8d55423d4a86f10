"""Split data sets that have no split, and find near-identical images.

Near-identical images (copies, other sizes, other compressions) stay in one split, so that no model
is tested on training images.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_SIDE = 16
_CHUNKS = 4
_ALIKE = 0.98
_MOST_PAIRS = 2_000_000


@dataclass(frozen=True)
class Fingerprint:
    """Features that `near_identical` compares.

    Attributes:
        hash: (..., 4) the 64 bits of a perceptual hash (Zauner, 2010).
        thumbnail: (..., 256) grey pixels, scaled to mean 0 and length 1.
    """

    hash: NDArray[np.uint16]
    thumbnail: NDArray[np.float32]

    @classmethod
    def stack(cls, prints: Sequence[Self]) -> Self:
        """Stack the fingerprints of N images."""
        hashes, thumbnails = ([getattr(item, name) for item in prints] for name in _PARTS)
        return cls(np.stack(hashes), np.stack(thumbnails))


_PARTS = ("hash", "thumbnail")


def fingerprint(pixels: NDArray[np.uint8]) -> Fingerprint:
    """Return the fingerprint of an image (h, w) or (h, w, 3) uint8."""
    image = Image.fromarray(pixels).convert("L")
    bits = np.packbits(imagehash.phash(image).hash.ravel())
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32).ravel()
    centred = small - small.mean()
    return Fingerprint(bits.view(np.uint16), centred / max(float(np.linalg.norm(centred)), 1e-6))


def near_identical(prints: Fingerprint) -> NDArray[np.int64]:
    """Return the group (N,) of each image; images of one group are near-identical.

    Two hashes that differ in fewer bits than they have chunks share a chunk, so only images with a
    common chunk are compared. Images whose thumbnails correlate form a group.
    """
    hashes, thumbnails = prints.hash, prints.thumbnail
    pairs = [_pairs_with_equal(hashes[:, chunk]) for chunk in range(_CHUNKS)]
    first, second = np.unique(np.concatenate(pairs), axis=0).T
    alike = np.concatenate(
        [
            np.einsum("ij,ij->i", thumbnails[first[part]], thumbnails[second[part]]) >= _ALIKE
            for part in np.array_split(np.arange(len(first)), len(first) // 100_000 + 1)
        ]
    )
    count = len(hashes)
    links = coo_matrix((alike[alike], (first[alike], second[alike])), shape=(count, count))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def _pairs_with_equal(values: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return pairs (P, 2) of positions with equal values; neighbours only if there are too many."""
    order = np.argsort(values, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
    pairs = [np.empty((0, 2), np.int64)]
    for run in runs:
        if len(run) ** 2 > _MOST_PAIRS:
            pairs.append(np.stack([run[:-1], run[1:]], axis=1))
        elif len(run) > 1:
            first, second = np.triu_indices(len(run), k=1)
            pairs.append(np.stack([run[first], run[second]], axis=1))
    return np.concatenate(pairs)


def stratified(
    groups: NDArray[np.int64], leading: NDArray[np.int64], valid_share: float, seed: int
) -> list[str]:
    """Split rows into "train" and "valid", keeping groups whole and emotions in proportion.

    Args:
        groups: (N,) from `near_identical`.
        leading: (N,) the index of each row's majority emotion.
        valid_share: share of each emotion's rows for "valid"; at least one row if an emotion has
            two groups or more.
        seed: of the random choice.
    """
    rng = np.random.default_rng(seed)
    valid = np.zeros(len(groups), bool)
    _, first = np.unique(groups, return_index=True)
    for emotion in np.unique(leading):
        # A group goes with the emotion of its first row.
        candidates = first[leading[first] == emotion]
        wanted = round(valid_share * int((leading == emotion).sum()))
        if len(candidates) > 1:
            wanted = max(1, wanted)
        taken = 0
        for position in rng.permutation(candidates)[: max(0, len(candidates) - 1)]:
            if taken >= wanted:
                break
            members = groups == groups[position]
            valid |= members
            taken += int(members.sum())
    return ["valid" if held_out else "train" for held_out in valid]


def sample(strata: Sequence[Hashable], limit: int, seed: int) -> list[int]:
    """Sample at most `limit` rows in proportion, with at least one of each stratum.

    Args:
        strata: (N,) the stratum of each row.
        limit: maximum number of rows, but at least one for each stratum.
        seed: of the random choice.

    Returns:
        The positions of the rows, in order.
    """
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    share = min(1.0, limit / max(1, len(strata)))
    return sorted(
        int(position)
        for positions in members.values()
        for position in rng.permutation(positions)[: max(1, int(share * len(positions)))]
    )
