"""The gate before the results table: Great Expectations over the rows that are to be committed."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from moodlake.emotions import SUM_TOLERANCE, LabelSpace
from moodlake.reasons import Reason, Status
from moodlake.scoring.run.policy import Gate
from moodlake.scoring.tables.schema import IDENTITY, results_schema

DEFAULT_GATE = Gate()
_MOST_EXAMPLES = 5
_CHECKED = (
    *IDENTITY, "run_id", "shard_id", "scored_at", "data_date", "status", "reason", "brightness"
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """An expectation that the rows did not meet.

    Attributes:
        expectation: what was expected, in words.
        rows: how many rows are at fault; 0 where it is about the rows as a whole.
        examples: keys of some of them.
        shards: ids of the shards that they are in; all, where it is about the rows as a whole.
    """

    expectation: str
    rows: int
    examples: tuple[str, ...]
    shards: tuple[str, ...]

    def __str__(self) -> str:
        where = f" ({self.rows} rows, such as {', '.join(self.examples)})" if self.rows else ""
        return self.expectation + where


def refused(
    staged: Mapping[str, pa.Table], space: LabelSpace, model_digest: str, gate: Gate = DEFAULT_GATE
) -> dict[str, list[Failure]]:
    """What is wrong with shards, by their ids; those that meet the contract are not among them.

    All are checked in one go, which takes little more than checking one.
    """
    schema, found = results_schema(space), defaultdict(list)
    alike = [rows for rows in staged.values() if rows.schema.equals(schema)]
    others = [rows for rows in staged.values() if not rows.schema.equals(schema)]
    for rows in [*([pa.concat_tables(alike)] if alike else ()), *others]:
        for failure in audit(rows, space, model_digest, gate):
            for shard_id in failure.shards:
                found[shard_id].append(failure)
    return dict(found)


def audit(
    rows: pa.Table, space: LabelSpace, model_digest: str, gate: Gate = DEFAULT_GATE
) -> list[Failure]:
    """Check rows against the contract of the results table; an empty list means they meet it.

    Args:
        rows: of any shards.
        space: the label space that the model's distributions are over.
        model_digest: of the model that was to be used.
        gate: how many of a shard may be broken.
    """
    shards = tuple(rows["shard_id"].unique().to_pylist())
    if odd := set(rows.schema) ^ set(results_schema(space)):
        names = ", ".join(sorted({field.name for field in odd}))
        return [Failure(f"{names}: the columns are those of the table", 0, (), shards)]
    frame = _with_checks(rows.select([*_CHECKED, *space.emotions]).to_pandas(), space, gate)
    batch, suite = _frames().get_batch({"dataframe": frame}), _suite(space, model_digest, gate)
    result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    return [_failure(item, frame) for item in result.results if not item.success]


@functools.cache
def _frames() -> Any:
    """Great Expectations' way to data frames. To import it takes seconds: only the gate pays."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    rows = context.data_sources.add_pandas("results").add_dataframe_asset("rows")
    return rows.add_batch_definition_whole_dataframe("all")


@functools.cache
def _suite(space: LabelSpace, model_digest: str, gate: Gate) -> Any:
    import great_expectations as gx

    return gx.ExpectationSuite("results", expectations=_expectations(space, model_digest, gate))


def _with_checks(frame: pd.DataFrame, space: LabelSpace, gate: Gate) -> pd.DataFrame:
    """The rows with what is derived from several columns, so that one expectation can test it."""
    scored = frame["status"] == str(Status.SCORED)
    probabilities = frame[list(space.emotions)]
    broken = frame["reason"].isin([str(reason) for reason in Reason if reason.is_broken])
    shards = broken.groupby(frame["shard_id"])
    return frame.assign(
        distribution_sum=probabilities.sum(axis=1).where(scored),
        distribution_size=probabilities.notna().sum(axis=1).where(scored),
        invented=(probabilities.notna().any(axis=1) & ~scored),
        reason_fits_status=scored == frame["reason"].isna(),
        broken=shards.transform("mean").where(shards.transform("size") >= gate.min_rows),
    )


def _in_words(kind: type, words: str, **settings: Any) -> Any:
    return kind(meta={"words": words}, **settings)


def _expectations(space: LabelSpace, model_digest: str, gate: Gate) -> list[Any]:
    """The contract of the results table, each with its meaning in words."""
    from great_expectations import expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    return [
        *_of_distributions(space),
        _in_words(
            gxe.ExpectCompoundColumnsToBeUnique,
            "one row per identity",
            column_list=list(IDENTITY),
        ),
        *(
            _in_words(gxe.ExpectColumnValuesToNotBeNull, f"{name} is there", column=name)
            for name in ("bucket", "key", "etag", "run_id", "scored_at", "data_date")
        ),
        _in_words(in_set, "status is known", column="status", value_set=list(map(str, Status))),
        _in_words(in_set, "reason is known", column="reason", value_set=list(map(str, Reason))),
        _in_words(
            in_set,
            "a reason where rejected and only there",
            column="reason_fits_status",
            value_set=[True],
        ),
        _in_words(
            in_set,
            "the model is the one the run was planned for",
            column="model_digest",
            value_set=[model_digest],
        ),
        _in_words(
            between,
            f"at most {gate.max_broken:.0%} of a shard's inputs are broken; to take them as they "
            "are, start a run with max_broken = 1",
            column="broken",
            max_value=gate.max_broken,
        ),
    ]


def _of_distributions(space: LabelSpace) -> list[Any]:
    """What is expected of probabilities, and of brightness beside them."""
    from great_expectations import expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    low, high = 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE
    return [
        _in_words(in_set, "no distribution where rejected", column="invented", value_set=[False]),
        _in_words(
            between,
            "a probability for every emotion",
            column="distribution_size",
            min_value=len(space),
        ),
        _in_words(
            between,
            f"distributions sum to 1 within {SUM_TOLERANCE}",
            column="distribution_sum",
            min_value=low,
            max_value=high,
        ),
        *(
            _in_words(
                between,
                f"{name} lies between 0 and 1",
                column=name,
                min_value=0,
                max_value=1,
            )
            for name in (*space.emotions, "brightness")
        ),
    ]


def _failure(result: Any, frame: pd.DataFrame) -> Failure:
    words = result.expectation_config.meta["words"]
    if result.exception_info.get("raised_exception"):
        words += f" (the check itself failed: {result.exception_info['exception_message']})"
    index = result.result.get("unexpected_index_list") or []
    keys = frame.loc[index[:_MOST_EXAMPLES], "key"]
    shards = (frame.loc[index] if index else frame)["shard_id"].unique()
    return Failure(words, len(index), tuple(keys), tuple(shards))
