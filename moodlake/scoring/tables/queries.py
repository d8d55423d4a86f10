"""Queries of the results table: filters, aggregates over the chosen rows, and the first of them.

Filters use the statistics of the table's files to skip files without matching rows. DuckDB
aggregates a stream of rows, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import and_
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from moodlake.reasons import Reason
from moodlake.scoring.tables.delta import scan, starts_with
from moodlake.scoring.tables.duckdb_spill import database
from moodlake.scoring.tables.schema import IDENTITY, emotion_columns

BINS = 20
"""Number of bins in the histograms of confidence and entropy."""
_MODEL = ("model_digest", "model_name", "model_version", "label_space")


@dataclass(frozen=True)
class Filter:
    """Conditions on rows; None or "" matches all rows.

    Attributes:
        bucket: bucket of the object.
        prefix: prefix of the key.
        first_day, last_day: inclusive range of the UTC date on which the object last changed.
        model: digest of the model.
        run: id of the run.
        emotion: dominant emotion.
        min_confidence, max_confidence: inclusive range of the dominant emotion's probability.
        outcome: `scored`, `rejected` or the reason of a rejection.
    """

    bucket: str | None = None
    prefix: str = ""
    first_day: date | None = None
    last_day: date | None = None
    model: str | None = None
    run: str | None = None
    emotion: str | None = None
    min_confidence: float = 0.0
    max_confidence: float = 1.0
    outcome: str | None = None

    def conditions(self) -> Iterator[tuple[str, pc.Expression]]:
        """Yield columns with the condition on each."""
        equal = {
            "bucket": self.bucket,
            "model_digest": self.model,
            "run_id": self.run,
            "dominant": self.emotion,
            "reason" if self.outcome in list(Reason) else "status": self.outcome,
        }
        for name, value in equal.items():
            if value is not None:
                yield name, pc.field(name) == value
        if self.prefix:
            yield "key", starts_with("key", self.prefix)
        if self.first_day:
            yield "data_date", pc.field("data_date") >= self.first_day
        if self.last_day:
            yield "data_date", pc.field("data_date") <= self.last_day
        if self.min_confidence > 0:
            yield "confidence", pc.field("confidence") >= self.min_confidence
        if self.max_confidence < 1:
            yield "confidence", pc.field("confidence") <= self.max_confidence


@dataclass(frozen=True)
class Overview:
    """Aggregates over the rows of a filter.

    Attributes:
        rows: number of rows.
        scored: number of scored rows.
        mean: emotion -> its mean probability over scored rows.
        dominant: emotion -> number of rows in which it is the most probable.
        reasons: reason -> number of rows rejected for it.
        by_day: UTC date of the objects' last change -> number of scored rows, and `mean`.
        confidence, entropy: (BINS,) counts of scored rows, in equal steps from 0 to 1 and from 0
            to `most_entropy`.
    """

    rows: int
    scored: int
    mean: dict[str, float]
    dominant: dict[str, int]
    reasons: dict[str, int]
    by_day: dict[date, tuple[int, dict[str, float]]]
    confidence: list[int]
    entropy: list[int]


def overview(table: DeltaTable, chosen: Filter, most_entropy: float) -> Overview:
    """Aggregate the rows of a filter in one pass.

    Args:
        table: results table.
        chosen: filter.
        most_entropy: upper end of the entropy histogram, in nats.
    """
    emotions = emotion_columns(table.to_pyarrow_dataset().schema)
    columns = ("data_date", "dominant", "reason", "confidence", "entropy", *emotions)
    sums = ", ".join(f'sum("{name}") AS "{name}"' for name in emotions)
    means = ", ".join(f'sum("{name}") / sum(scored)' for name in emotions)
    with _rows(table, columns, chosen) as connection:
        connection.execute(f"""
            CREATE TABLE cube AS SELECT data_date, dominant, reason,
                {_bin("confidence", 1.0)}, {_bin("entropy", most_entropy)},
                count(*) AS rows, count(dominant) AS scored, {sums}
            FROM results GROUP BY ALL""")

        def counts(column: str) -> dict[Any, int]:
            query = f"SELECT {column}, sum(rows)::BIGINT FROM cube GROUP BY 1 ORDER BY 2 DESC, 1"
            found = connection.execute(query).fetchall()
            return {value: count for value, count in found if value is not None}

        def by_emotion(means: Sequence[float | None]) -> dict[str, float]:
            pairs = zip(emotions, means, strict=True)
            return {name: mean for name, mean in pairs if mean is not None}

        ((rows, scored, *mean),) = connection.execute(
            f"SELECT coalesce(sum(rows), 0)::BIGINT, coalesce(sum(scored), 0)::BIGINT, {means} "
            "FROM cube"
        ).fetchall()
        days = connection.execute(
            f"SELECT data_date, sum(scored)::BIGINT, {means} FROM cube WHERE scored > 0 "
            "GROUP BY 1 ORDER BY 1"
        ).fetchall()
        confidence, entropy = counts("confidence_bin"), counts("entropy_bin")
        return Overview(
            rows=rows,
            scored=scored,
            mean=by_emotion(mean),
            dominant=counts("dominant"),
            reasons=counts("reason"),
            by_day={day: (count, by_emotion(means)) for day, count, *means in days},
            confidence=[confidence.get(index, 0) for index in range(BINS)],
            entropy=[entropy.get(index, 0) for index in range(BINS)],
        )


def _bin(column: str, most: float) -> str:
    """Return SQL for the bin of a value, in equal steps up to `most`; the last bin is open."""
    place = f"least({BINS - 1}, floor({column} / {most} * {BINS}))::INT"
    return f"CASE WHEN {column} IS NOT NULL THEN {place} END AS {column}_bin"


ORDERS = {
    "most certain": "confidence DESC NULLS LAST",
    "least certain": "confidence NULLS LAST",
    "newest": "last_modified DESC",
    "key": "bucket, key",
}
"""Name of an order -> SQL."""
_FIRST_ROWS_COLUMNS = (
    *IDENTITY,
    *("status", "reason", "dominant", "confidence", "entropy"),
    *("model_version", "last_modified", "data_date"),
)


def first_rows(table: DeltaTable, chosen: Filter, order: str, count: int) -> pa.Table:
    """Return the first rows of a filter in one of ORDERS, with their most important columns."""
    query = f"FROM results ORDER BY {ORDERS[order]}, bucket, key, etag LIMIT {count}"
    with _rows(table, _FIRST_ROWS_COLUMNS, chosen) as connection:
        return connection.sql(query).to_arrow_table()


@contextmanager
def _rows(
    table: DeltaTable, columns: Sequence[str], chosen: Filter
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in which `results` is a stream of columns that can be read once."""
    conditions = list(chosen.conditions())
    where = reduce(and_, (condition for _, condition in conditions)) if conditions else None
    rows = scan(table, columns, where, uses=[name for name, _ in conditions])
    with database() as connection:
        connection.register("results", rows)
        yield connection


@dataclass(frozen=True)
class Choices:
    """Values that a table can be filtered by.

    Attributes:
        buckets: names of buckets, sorted.
        models: models, the one that scored last first.
        emotions: emotions of all models.
        days: first and last UTC date on which objects changed.
    """

    buckets: tuple[str, ...]
    models: tuple[ScoredModel, ...]
    emotions: tuple[str, ...]
    days: tuple[date, date]


def choices(table: DeltaTable) -> Choices | None:
    """Return the values that the table can be filtered by; None if it has no rows."""
    buckets: set[str] = set()
    for batch in scan(table, ["bucket"]):
        buckets.update(pc.unique(batch["bucket"]).to_pylist())
    days = [date.fromisoformat(partition["data_date"]) for partition in table.partitions()]
    if not buckets or not days:
        return None
    emotions = emotion_columns(table.to_pyarrow_dataset().schema)
    return Choices(
        tuple(sorted(buckets)), tuple(models_in(table)), emotions, (min(days), max(days))
    )


@dataclass(frozen=True)
class ScoredModel:
    """A model with rows in the table; `last_scored` is the time of the newest one."""

    digest: str
    name: str
    version: str
    space: str
    last_scored: datetime

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.digest[:12]})"


def models_in(table: DeltaTable, where: pc.Expression | None = None) -> list[ScoredModel]:
    """Return the models of the chosen rows, the one that scored last first."""
    last: dict[str, ScoredModel] = {}
    uses = () if where is None else ("bucket", "key")
    for batch in scan(table, [*_MODEL, "scored_at"], where, uses):
        grouped = pa.table([*batch.columns], names=batch.schema.names).group_by(list(_MODEL))
        for row in grouped.aggregate([("scored_at", "max")]).to_pylist():
            model = ScoredModel(*(row[name] for name in (*_MODEL, "scored_at_max")))
            known = last.get(model.digest, model)
            last[model.digest] = max(model, known, key=_time)
    return sorted(last.values(), key=_time, reverse=True)


def _time(model: ScoredModel) -> datetime:
    return model.last_scored
