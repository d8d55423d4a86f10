"""Comparison of two models by their rows of the same object versions.

DuckDB joins the rows on disk and they are compared in batches, so memory does not grow with them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace, in_space, jensen_shannon_distance, shared_space
from moodlake.errors import UserError
from moodlake.reasons import Status
from moodlake.scoring.tables.delta import scan, starts_with
from moodlake.scoring.tables.duckdb_spill import database, fill
from moodlake.scoring.tables.queries import ScoredModel, models_in
from moodlake.scoring.tables.schema import emotion_columns

NO_ROW = "no_row"
"""Stands for a reason: the model has no row of this object version."""
MOST_CHANGED = 12
_BATCH_ROWS = 20_000
_OBJECT = ("bucket", "key", "etag")
_IMAGE = (*_OBJECT, "version_id", "size")
_SCORED_BY_BOTH = (
    f"SELECT {{columns}} FROM old AS o JOIN new AS n USING ({', '.join(_OBJECT)}) "
    f"WHERE o.status = '{Status.SCORED}' AND n.status = '{Status.SCORED}'"
)
RESOLUTION = 10_000
"""Quantiles are rounded to 1 / RESOLUTION."""
_QUANTILES = (0.1, 0.5, 0.9, 0.99)

Array = NDArray[np.float64]


class DiffError(UserError):
    """Two models cannot be compared; the message gives the reason."""


@dataclass(frozen=True)
class Diff:
    """Comparison of two models over the same object versions.

    Attributes:
        old, new: the models.
        emotions: compared emotions, as the new model names them.
        coverage: mean probability that these emotions hold in the old and in the new
            distributions, 0 to 1. It is 1 if the label spaces are equal; otherwise the
            distributions were rescaled to sum to 1.
        only_old: outcome of the new model -> number of images that only the old one scored.
        only_new: outcome of the old model -> number of images that only the new one scored.
        different_face_modes: number of pairs in which the models scored different parts.
        changes: changes over the pairs, which both models scored.
    """

    old: ScoredModel
    new: ScoredModel
    emotions: tuple[str, ...]
    coverage: tuple[float, float]
    only_old: dict[str, int]
    only_new: dict[str, int]
    different_face_modes: int
    changes: Changes

    def headline(self) -> dict[str, Any]:
        """Return the main numbers; shares and distances are 0 to 1."""
        return {
            "old": str(self.old),
            "new": str(self.new),
            "pairs": self.changes.pairs,
            "changed_dominant": self.changes.changed,
            "mean_distance": self.changes.mean_distance,
            "only_old": sum(self.only_old.values()),
            "only_new": sum(self.only_new.values()),
        }


def compare(
    table: DeltaTable,
    old: str | None = None,
    new: str | None = None,
    *,
    bucket: str | None = None,
    prefix: str = "",
    most_changed: int = MOST_CHANGED,
) -> Diff:
    """Compare the scores of two models over the same images.

    Args:
        table: results table.
        old, new: version or leading digits of a digest. By default, `new` is the model that
            scored last, and `old` the one that did so before it.
        bucket: bucket to compare; None for all buckets.
        prefix: compare only keys with this prefix.
        most_changed: number of most changed images to include.

    Raises:
        DiffError: there are no such models, or they share fewer than two emotions.
    """
    where = _where(bucket, prefix)
    older, newer = choose(models_in(table, where), old, new)
    emotions = emotion_columns(table.to_pyarrow_dataset().schema)
    columns = [*_IMAGE, "status", "reason", "face_mode", "model_digest"]
    both = pc.field("model_digest").isin([older.digest, newer.digest])
    rows = scan(table, [*columns, *emotions], both if where is None else both & where)
    with database() as connection:
        fill(connection, "outcomes", rows.schema, rows)
        for side, model in (("old", older), ("new", newer)):
            connection.execute(
                f"CREATE VIEW {side} AS SELECT *, coalesce(reason, status) AS outcome "
                f"FROM outcomes WHERE model_digest = '{model.digest}'"
            )
        return _compare(connection, older, newer, emotions, most_changed)


def choose(
    models: Sequence[ScoredModel], old: str | None, new: str | None
) -> tuple[ScoredModel, ScoredModel]:
    """Choose the old and the new model; see `compare`."""
    given = {text: _find(models, text) for text in (old, new) if text}
    left = [model for model in models if model not in given.values()]
    newer = given[new] if new else next(iter(left), None)
    older = given[old] if old else next((model for model in left if model != newer), None)
    if older is None or newer is None or older == newer:
        listed = ", ".join(map(str, models)) or "none"
        raise DiffError(f"a comparison needs two models; models with rows here: {listed}")
    return older, newer


def _find(models: Sequence[ScoredModel], text: str) -> ScoredModel:
    found = [model for model in models if model.version == text or model.digest.startswith(text)]
    if len(found) == 1:
        return found[0]
    problem = "matches more than one model" if found else "matches no model in this table"
    listed = ", ".join(map(str, found or models)) or "none"
    raise DiffError(f"{text!r} {problem}; name the version or digest of one of these: {listed}")


def _where(bucket: str | None, prefix: str) -> pc.Expression | None:
    chosen = None if bucket is None else pc.field("bucket") == bucket
    if prefix:
        named = starts_with("key", prefix)
        chosen = named if chosen is None else chosen & named
    return chosen


def _compare(
    connection: duckdb.DuckDBPyConnection,
    old: ScoredModel,
    new: ScoredModel,
    emotions: Sequence[str],
    most_changed: int,
) -> Diff:
    common = _SCORED_BY_BOTH.format(
        columns="count(*), count(*) FILTER (o.face_mode != n.face_mode)"
    )
    pairs, different_face_modes = connection.execute(common).fetchall()[0]
    if not pairs:
        raise DiffError(f"{old} and {new} have no scored image in common here")
    spaces = (
        _space_of(connection, "old", old, emotions),
        _space_of(connection, "new", new, emotions),
    )
    try:
        shared = shared_space(*spaces)
    except ValueError as error:
        raise DiffError(f"{old} and {new}: {error}") from error
    tally = Tally(shared.emotions, most_changed)
    coverage = np.zeros(2)
    for batch in _pairs(connection, spaces):
        (before, before_kept), (after, after_kept) = (
            in_space(_matrix(batch, side, space), space, shared)
            for side, space in zip(("old", "new"), spaces, strict=True)
        )
        tally.add(batch.select(_IMAGE), before, after)
        coverage += before_kept.sum(), after_kept.sum()
    only_old, only_new = _scored_by_one(connection)
    return Diff(
        old=old,
        new=new,
        emotions=shared.emotions,
        coverage=(float(coverage[0] / pairs), float(coverage[1] / pairs)),
        only_old=only_old,
        only_new=only_new,
        different_face_modes=different_face_modes,
        changes=tally.changes(),
    )


def _space_of(
    connection: duckdb.DuckDBPyConnection, side: str, model: ScoredModel, emotions: Sequence[str]
) -> LabelSpace:
    """Return the emotions with probabilities by a model; other columns belong to other models."""
    counts = ", ".join(f'count("{emotion}")' for emotion in emotions)
    (row,) = connection.execute(f"SELECT {counts} FROM {side}").fetchall()
    given = tuple(emotion for emotion, count in zip(emotions, row, strict=True) if count)
    return LabelSpace(model.space, given)


def _pairs(
    connection: duckdb.DuckDBPyConnection, spaces: tuple[LabelSpace, LabelSpace]
) -> Iterator[pa.RecordBatch]:
    """Yield images that both models scored, with columns `old <emotion>` and `new <emotion>`."""
    probabilities = [
        f'{side[0]}."{emotion}" AS "{side} {emotion}"'
        for side, space in zip(("old", "new"), spaces, strict=True)
        for emotion in space.emotions
    ]
    columns = ", ".join([*(f"n.{name}" for name in _IMAGE), *probabilities])
    query = _SCORED_BY_BOTH.format(columns=columns)
    yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)


def _matrix(batch: pa.RecordBatch, side: str, space: LabelSpace) -> NDArray[np.float64]:
    """Return the distributions (N, E) of one side, `old` or `new`."""
    columns = [batch[f"{side} {emotion}"].to_numpy(False) for emotion in space.emotions]
    return np.column_stack(columns).astype(np.float64)


def _scored_by_one(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[str, int], dict[str, int]]:
    """Count images that only one model scored by the outcome of the other: (only old, only new)."""
    found: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for place, (one, other) in enumerate((("old", "new"), ("new", "old"))):
        query = (
            f"SELECT coalesce(t.outcome, '{NO_ROW}') AS outcome, count(*) "
            f"FROM {one} LEFT JOIN {other} AS t USING ({', '.join(_OBJECT)}) "
            f"WHERE {one}.status = '{Status.SCORED}' "
            f"AND t.status IS DISTINCT FROM '{Status.SCORED}' GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        found[place].update(connection.execute(query).fetchall())
    return found


@dataclass(frozen=True)
class ChangedImage:
    """An object version with the distributions of two models, and their distance."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    size: int
    distance: float
    old: tuple[float, ...]
    new: tuple[float, ...]


@dataclass(frozen=True)
class Changes:
    """Changes from old to new distributions over E emotions.

    Attributes:
        pairs: number of pairs of an old and a new distribution.
        changed: share of pairs whose dominant emotion changed, 0 to 1.
        mean_distance: mean Jensen-Shannon distance, 0 to 1.
        quantiles: share of pairs -> distance that they do not exceed, rounded up to
            1 / RESOLUTION.
        histogram: (RESOLUTION,) number of pairs by distance, in equal steps from 0 to 1.
        shift: (E,) mean of the new minus the old probability, -1 to 1.
        transitions: (E, E) number of pairs by dominant emotion: row old, column new.
        most_changed: images with the largest distances, largest first.
    """

    pairs: int
    changed: float
    mean_distance: float
    quantiles: dict[float, float]
    histogram: NDArray[np.int64]
    shift: Array
    transitions: NDArray[np.int64]
    most_changed: tuple[ChangedImage, ...]


class Tally:
    """Accumulates `Changes` in constant memory.

    Args:
        emotions: emotions of the distributions.
        most_changed: number of images to keep.
    """

    def __init__(self, emotions: Sequence[str], most_changed: int) -> None:
        size = len(emotions)
        self._most = most_changed
        self._distances = 0.0
        self._histogram = np.zeros(RESOLUTION, np.int64)
        self._shift = np.zeros(size)
        self._transitions = np.zeros((size, size), np.int64)
        self._top: list[ChangedImage] = []

    def add(self, images: pa.RecordBatch, old: Array, new: Array) -> None:
        """Add pairs.

        Args:
            images: bucket, key, etag, version_id and size of N images.
            old, new: (N, E) distributions.
        """
        distances = jensen_shannon_distance(old, new)
        self._distances += float(distances.sum())
        steps = np.ceil(distances * RESOLUTION).astype(np.int64) - 1
        self._histogram += np.bincount(steps.clip(0), minlength=RESOLUTION)
        self._shift += (new - old).sum(axis=0)
        np.add.at(self._transitions, (old.argmax(axis=1), new.argmax(axis=1)), 1)
        top = np.argsort(-distances, kind="stable")[: self._most]
        rows = images.take(pa.array(top)).to_pylist()
        found = (
            ChangedImage(
                **row,
                distance=float(distances[index]),
                old=tuple(old[index].tolist()),
                new=tuple(new[index].tolist()),
            )
            for row, index in zip(rows, top, strict=True)
        )
        self._top = heapq.nsmallest(self._most, [*self._top, *found], key=_most_changed_first)

    def changes(self) -> Changes:
        """Return the changes over all pairs, of which there must be at least one."""
        pairs = int(self._histogram.sum())
        up_to = np.cumsum(self._histogram)
        return Changes(
            pairs=pairs,
            changed=(pairs - int(np.trace(self._transitions))) / pairs,
            mean_distance=self._distances / pairs,
            quantiles={
                share: (int(np.searchsorted(up_to, share * pairs)) + 1) / RESOLUTION
                for share in _QUANTILES
            },
            histogram=self._histogram,
            shift=self._shift / pairs,
            transitions=self._transitions,
            most_changed=tuple(self._top),
        )


def _most_changed_first(image: ChangedImage) -> tuple[float, str, str, str]:
    return -image.distance, image.bucket, image.key, image.etag
