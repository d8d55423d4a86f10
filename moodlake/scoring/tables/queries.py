"""Questions to the results table: which rows, what they say together, and the first of them.

Filters go down to the table's files, whose statistics leave out those that hold nothing of them.
Rows come in a stream and are counted in DuckDB: memory does not grow with their number.
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
"""Of the histograms of confidence and of entropy."""
_MODEL = ("model_digest", "model_name", "model_version", "label_space")


@dataclass(frozen=True)
class Filter:
    """Which rows; what is None, or empty, chooses all.

    Attributes:
        bucket: this one.
        prefix: keys that start with it.
        first_day, last_day: UTC dates on which the objects were changed, both included.
        model: its digest.
        run: its id.
        emotion: the dominant one.
        least_sure, most_sure: probability of the dominant emotion, 0 to 1, both included.
        outcome: `scored`, `rejected` or the reason of a rejection.
    """

    bucket: str | None = None
    prefix: str = ""
    first_day: date | None = None
    last_day: date | None = None
    model: str | None = None
    run: str | None = None
    emotion: str | None = None
    least_sure: float = 0.0
    most_sure: float = 1.0
    outcome: str | None = None

    def conditions(self) -> Iterator[tuple[str, pc.Expression]]:
        """Columns, and what has to be true of each."""
        same = {
            "bucket": self.bucket,
            "model_digest": self.model,
            "run_id": self.run,
            "dominant": self.emotion,
            "reason" if self.outcome in list(Reason) else "status": self.outcome,
        }
        for name, value in same.items():
            if value is not None:
                yield name, pc.field(name) == value
        if self.prefix:
            yield "key", starts_with("key", self.prefix)
        if self.first_day:
            yield "data_date", pc.field("data_date") >= self.first_day
        if self.last_day:
            yield "data_date", pc.field("data_date") <= self.last_day
        if self.least_sure > 0:
            yield "confidence", pc.field("confidence") >= self.least_sure
        if self.most_sure < 1:
            yield "confidence", pc.field("confidence") <= self.most_sure


@dataclass(frozen=True)
class Overview:
    """What the rows of a filter say together.

    Attributes:
        rows: how many.
        scored: of these.
        mean: emotion -> its mean probability, over what is scored.
        dominant: emotion -> how often it is the most probable.
        reasons: of rejections -> how often.
        by_day: UTC date on which the objects were changed -> how many were scored, and `mean`.
        confidence, entropy: (BINS,) counts of what is scored, in equal steps up to 1 and up to
            `most_entropy`.
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
    """Count the rows of a filter, in one pass.

    Args:
        table: of results.
        chosen: which rows.
        most_entropy: the upper end of its histogram, in nats.
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

        def told(means: Sequence[float | None]) -> dict[str, float]:
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
            mean=told(mean),
            dominant=counts("dominant"),
            reasons=counts("reason"),
            by_day={day: (count, told(means)) for day, count, *means in days},
            confidence=[confidence.get(index, 0) for index in range(BINS)],
            entropy=[entropy.get(index, 0) for index in range(BINS)],
        )


def _bin(column: str, most: float) -> str:
    """SQL for the place of a value in equal steps up to `most`; the last holds what is above."""
    place = f"least({BINS - 1}, floor({column} / {most} * {BINS}))::INT"
    return f"CASE WHEN {column} IS NOT NULL THEN {place} END AS {column}_bin"


ORDERS = {
    "most certain": "confidence DESC NULLS LAST",
    "least certain": "confidence NULLS LAST",
    "newest": "last_modified DESC",
    "key": "bucket, key",
}
"""Names of orders -> SQL."""
_TOLD = (
    *IDENTITY,
    *("status", "reason", "dominant", "confidence", "entropy"),
    *("model_version", "last_modified", "data_date"),
)


def first_rows(table: DeltaTable, chosen: Filter, order: str, count: int) -> pa.Table:
    """The first rows of a filter in one of ORDERS: IDENTITY and what tells most."""
    query = f"FROM results ORDER BY {ORDERS[order]}, bucket, key, etag LIMIT {count}"
    with _rows(table, _TOLD, chosen) as connection:
        return connection.sql(query).to_arrow_table()


@contextmanager
def _rows(
    table: DeltaTable, columns: Sequence[str], chosen: Filter
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in which `results` is a stream of these columns, to be read once."""
    conditions = list(chosen.conditions())
    where = reduce(and_, (condition for _, condition in conditions)) if conditions else None
    rows = scan(table, columns, where, uses=[name for name, _ in conditions])
    with database() as connection:
        connection.register("results", rows.to_reader())
        yield connection


@dataclass(frozen=True)
class Choices:
    """What a table can be filtered by.

    Attributes:
        buckets: in the order of their names.
        models: the one that scored last before the others.
        emotions: of all models.
        days: the first and the last date on which objects were changed.
    """

    buckets: tuple[str, ...]
    models: tuple[ScoredModel, ...]
    emotions: tuple[str, ...]
    days: tuple[date, date]


def choices(table: DeltaTable) -> Choices | None:
    """What the table can be filtered by; None if it has no rows."""
    buckets: set[str] = set()
    for batch in scan(table, ["bucket"]).to_batches():
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
    """A model that has rows in the table; `last_scored` is the time of its newest one."""

    digest: str
    name: str
    version: str
    space: str
    last_scored: datetime

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.digest[:12]})"


def models_in(table: DeltaTable, where: pc.Expression | None = None) -> list[ScoredModel]:
    """The models of the rows chosen, the one that scored last before the others."""
    last: dict[str, ScoredModel] = {}
    uses = () if where is None else ("bucket", "key")
    for batch in scan(table, [*_MODEL, "scored_at"], where, uses).to_batches():
        grouped = pa.table([*batch.columns], names=batch.schema.names).group_by(list(_MODEL))
        for row in grouped.aggregate([("scored_at", "max")]).to_pylist():
            model = ScoredModel(*(row[name] for name in (*_MODEL, "scored_at_max")))
            known = last.get(model.digest, model)
            last[model.digest] = max(model, known, key=_time)
    return sorted(last.values(), key=_time, reverse=True)


def _time(model: ScoredModel) -> datetime:
    return model.last_scored
