"""What a new model changes: two models' rows of the same object versions, compared.

The rows meet on disk, in DuckDB, and are compared in batches: memory does not grow with them.
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
"""In the place of a reason: the model has no row of this object version."""
MOST_CHANGED = 12
_BATCH_ROWS = 20_000
_OBJECT = ("bucket", "key", "etag")
_IMAGE = (*_OBJECT, "version_id", "size")
_SCORED_BY_BOTH = (
    f"SELECT {{columns}} FROM old AS o JOIN new AS n USING ({', '.join(_OBJECT)}) "
    f"WHERE o.status = '{Status.SCORED}' AND n.status = '{Status.SCORED}'"
)
RESOLUTION = 10_000
"""Quantiles are told to one part of these."""
_QUANTILES = (0.1, 0.5, 0.9, 0.99)

Array = NDArray[np.float64]


class DiffError(UserError):
    """Two models cannot be compared; the message says why."""


@dataclass(frozen=True)
class Diff:
    """Two models over the same object versions.

    Attributes:
        old, new: the models.
        emotions: those compared, as the new model names them.
        told: how much of the old and of the new distributions these hold, 0 to 1, on average.
            1 where the label spaces are the same; else the rest was scaled to sum to 1.
        only_old: what the new model has of images that only the old one scored, reason -> count.
        only_new: what the old model has of images that only the new one scored.
        read_otherwise: pairs of which the models read different parts (face modes).
        changes: of the pairs, which both scored.
    """

    old: ScoredModel
    new: ScoredModel
    emotions: tuple[str, ...]
    told: tuple[float, float]
    only_old: dict[str, int]
    only_new: dict[str, int]
    read_otherwise: int
    changes: Changes

    def headline(self) -> dict[str, Any]:
        """The numbers to look at first; shares and distances are 0 to 1."""
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
    """What `new` says of the images that `old` has scored.

    Args:
        table: of results.
        old, new: a version or the beginning of a digest. None for the model that scored last,
            and of the others the one that scored last.
        bucket: None for all buckets.
        prefix: only keys that start with this.
        most_changed: how many images to name.

    Raises:
        DiffError: no such models, or label spaces without two emotions in common.
    """
    where = _where(bucket, prefix)
    older, newer = choose(models_in(table, where), old, new)
    emotions = emotion_columns(table.to_pyarrow_dataset().schema)
    columns = [*_IMAGE, "status", "reason", "face_mode", "model_digest"]
    both = pc.field("model_digest").isin([older.digest, newer.digest])
    rows = scan(table, [*columns, *emotions], both if where is None else both & where)
    with database() as connection:
        fill(connection, "outcomes", rows.projected_schema, rows.to_batches())
        for side, model in (("old", older), ("new", newer)):
            connection.execute(
                f"CREATE VIEW {side} AS SELECT *, coalesce(reason, status) AS outcome "
                f"FROM outcomes WHERE model_digest = '{model.digest}'"
            )
        return _compare(connection, older, newer, emotions, most_changed)


def choose(
    models: Sequence[ScoredModel], old: str | None, new: str | None
) -> tuple[ScoredModel, ScoredModel]:
    """The old and the new model; see `compare`."""
    given = {text: _find(models, text) for text in (old, new) if text}
    left = [model for model in models if model not in given.values()]
    newer = given[new] if new else next(iter(left), None)
    older = given[old] if old else next((model for model in left if model != newer), None)
    if older is None or newer is None or older == newer:
        listed = ", ".join(map(str, models)) or "none"
        raise DiffError(f"a comparison takes two models; those that scored here: {listed}")
    return older, newer


def _find(models: Sequence[ScoredModel], text: str) -> ScoredModel:
    found = [model for model in models if model.version == text or model.digest.startswith(text)]
    if len(found) == 1:
        return found[0]
    trouble = "is more than one model" if found else "has not scored anything here"
    listed = ", ".join(map(str, found or models)) or "none"
    raise DiffError(f"{text!r} {trouble}; name a digest of these: {listed}")


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
    pairs, read_otherwise = connection.execute(common).fetchall()[0]
    if not pairs:
        raise DiffError(f"{old} and {new} have scored no image in common here")
    spaces = (
        _space_of(connection, "old", old, emotions),
        _space_of(connection, "new", new, emotions),
    )
    try:
        shared = shared_space(*spaces)
    except ValueError as error:
        raise DiffError(f"{old} and {new}: {error}") from error
    tally = Tally(shared.emotions, most_changed)
    told = np.zeros(2)
    for batch in _pairs(connection, spaces):
        (before, before_told), (after, after_told) = (
            in_space(_matrix(batch, side, space), space, shared)
            for side, space in zip(("old", "new"), spaces, strict=True)
        )
        tally.add(batch.select(_IMAGE), before, after)
        told += before_told.sum(), after_told.sum()
    only_old, only_new = _scored_by_one(connection)
    return Diff(
        old=old,
        new=new,
        emotions=shared.emotions,
        told=(float(told[0] / pairs), float(told[1] / pairs)),
        only_old=only_old,
        only_new=only_new,
        read_otherwise=read_otherwise,
        changes=tally.changes(),
    )


def _space_of(
    connection: duckdb.DuckDBPyConnection, side: str, model: ScoredModel, emotions: Sequence[str]
) -> LabelSpace:
    """The emotions that a model gave probabilities to: the others are columns of other models."""
    counts = ", ".join(f'count("{emotion}")' for emotion in emotions)
    (row,) = connection.execute(f"SELECT {counts} FROM {side}").fetchall()
    given = tuple(emotion for emotion, count in zip(emotions, row, strict=True) if count)
    return LabelSpace(model.space, given)


def _pairs(
    connection: duckdb.DuckDBPyConnection, spaces: tuple[LabelSpace, LabelSpace]
) -> Iterator[pa.RecordBatch]:
    """What both models scored; `old <emotion>` and `new <emotion>` beside the image's columns."""
    probabilities = [
        f'{side[0]}."{emotion}" AS "{side} {emotion}"'
        for side, space in zip(("old", "new"), spaces, strict=True)
        for emotion in space.emotions
    ]
    columns = ", ".join([*(f"n.{name}" for name in _IMAGE), *probabilities])
    query = _SCORED_BY_BOTH.format(columns=columns)
    yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)


def _matrix(batch: pa.RecordBatch, side: str, space: LabelSpace) -> NDArray[np.float64]:
    """Distributions (N, E) of one side."""
    columns = [batch[f"{side} {emotion}"].to_numpy(False) for emotion in space.emotions]
    return np.column_stack(columns).astype(np.float64)


def _scored_by_one(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[str, int], dict[str, int]]:
    """(of images that only old scored: what new has, and the other way round)."""
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
    """One object version and what two models say of it; distributions run over the emotions."""

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
    """From old to new distributions over E emotions.

    Attributes:
        pairs: how many there are.
        changed: share of the pairs whose most probable emotion is another one, 0 to 1.
        mean_distance: the mean Jensen-Shannon distance, 0 to 1.
        quantiles: share of the pairs -> the distance that these do not exceed, rounded up to
            1 / RESOLUTION.
        histogram: (RESOLUTION,) pairs by their distance, in equal steps from 0 to 1.
        shift: (E,) mean of the new minus the old probability, -1 to 1.
        transitions: (E, E) pairs by the most probable emotion: row old, column new.
        most_changed: by distance, the largest first.
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
    """Adds up `Changes`; it keeps sums and the most changed images, however many pairs come.

    Args:
        emotions: what the distributions run over.
        most_changed: how many images to keep.
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
        """Take pairs in.

        Args:
            images: their bucket, key, etag, version_id and size, N rows.
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
        """All that was added, at least one pair."""
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
