"""Summaries of many rows, accumulated in parts: memory does not grow with their number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace
from moodlake.prediction import FaceMode
from moodlake.profile import Profile
from moodlake.reasons import Reason, Status
from moodlake.scoring.tables.schema import count_outcomes, emotion_columns

_EXAMPLES_OF_A_REASON = 3


class Examples:
    """Example rows: the most certain, the most ambiguous, and some rejected ones.

    Args:
        count: number of most certain and of most ambiguous rows.

    Attributes:
        emotions: columns of the distributions.
        rejected: reason -> some keys.
    """

    def __init__(self, count: int) -> None:
        self.emotions: tuple[str, ...] = ()
        self.rejected: defaultdict[str, list[str]] = defaultdict(list)
        self._count = count
        self._kept: dict[str, pa.Table] = {}

    def add(self, rows: pa.Table) -> None:
        """Consider more rows of results."""
        self.emotions = tuple(
            name
            for name in emotion_columns(rows.schema)
            if name in self.emotions or rows[name].null_count < rows.num_rows
        )
        scored = rows.filter(pc.equal(rows["status"], str(Status.SCORED)))
        for order in ("ascending", "descending"):
            among = pa.concat_tables([self._kept.get(order, scored.slice(0, 0)), scored])
            keys = [("entropy", order), ("key", "ascending")]
            self._kept[order] = among.take(pc.select_k_unstable(among, self._count, keys))
        others = rows.filter(pc.is_valid(rows["reason"]))
        for reason in pc.unique(others["reason"]).to_pylist():
            keys = others.filter(pc.equal(others["reason"], reason))["key"]
            free = _EXAMPLES_OF_A_REASON - len(self.rejected[reason])
            self.rejected[reason] += keys.slice(0, free).to_pylist()

    @property
    def certain(self) -> list[dict[str, Any]]:
        """Rows of lowest entropy, lowest first."""
        return self._rows("ascending")

    @property
    def ambiguous(self) -> list[dict[str, Any]]:
        """Rows of highest entropy, highest first."""
        return self._rows("descending")

    def _rows(self, order: str) -> list[dict[str, Any]]:
        return list(self._kept[order].to_pylist()) if order in self._kept else []


def examples_of(batches: Iterable[pa.RecordBatch], count: int) -> Examples:
    """Choose example rows from batches; see `Examples`."""
    examples = Examples(count)
    for batch in batches:
        examples.add(pa.Table.from_batches([batch]))
    return examples


class Summary:
    """Aggregates over the rows of a run, for its record and its report.

    Args:
        space: label space of the run's model.
        examples: number of examples; see `Examples`.

    Attributes:
        objects: number of rows.
        bytes: total size of their objects.
        scored: number of rows with a distribution.
        reasons: reason -> number of rows rejected for it.
        profile: profile of all rows.
        examples: example rows.
    """

    def __init__(self, space: LabelSpace, examples: int) -> None:
        self._space = space
        self.objects = self.bytes = self.scored = 0
        self.reasons: Counter[str] = Counter()
        self.profile = Profile.empty()
        self.examples = Examples(examples)

    def add(self, rows: pa.Table) -> None:
        """Add rows of results."""
        scored, _, reasons = count_outcomes(rows)
        self.objects += rows.num_rows
        self.bytes += pc.sum(rows["size"]).as_py() or 0
        self.scored += scored
        self.reasons.update(reasons)
        self.profile += profile_of(rows, self._space)
        self.examples.add(rows)


def profile_of(rows: pa.Table, space: LabelSpace) -> Profile:
    """Compute the profile of rows of results that share a label space."""
    scored, _, reasons = count_outcomes(rows)
    kept = rows.filter(pc.equal(rows["status"], str(Status.SCORED)))
    distributions = np.stack([kept[name].to_numpy() for name in space.emotions], axis=1)
    return Profile.of(
        space,
        distributions,
        brightness=kept["brightness"].drop_null().to_numpy(),
        sizes=_sizes(kept),
        # Each run retries missing and unreadable objects: they would count each time.
        outcomes={
            str(Status.SCORED): scored,
            **{name: count for name, count in reasons.items() if not Reason(name).is_retryable},
        },
    )


def _sizes(scored: pa.Table) -> NDArray[np.float64]:
    """Return the shorter sides (N,) of the scored part: the largest face's box, or the image."""
    whole = pc.equal(scored["face_mode"], str(FaceMode.NONE))
    images, photos = scored.filter(whole), scored.filter(pc.invert(whole))
    largest = pc.list_element(photos["face_boxes"], 0)
    sides = [
        pc.min_element_wise(images["width"], images["height"]),
        pc.min_element_wise(pc.struct_field(largest, "width"), pc.struct_field(largest, "height")),
    ]
    return np.concatenate([side.drop_null().to_numpy() for side in sides])
