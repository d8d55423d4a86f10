"""The quality gate before the results table: Great Expectations over the rows to be committed."""

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
    """An expectation that rows failed.

    Attributes:
        expectation: the expectation as text.
        rows: number of failing rows; 0 if the expectation concerns the table as a whole.
        examples: keys of some failing rows.
        shards: ids of the shards with failing rows; all if it concerns the table as a whole.
    """

    expectation: str
    rows: int
    examples: tuple[str, ...]
    shards: tuple[str, ...]

    def __str__(self) -> str:
        where = f" ({self.rows} rows, such as {', '.join(self.examples)})" if self.rows else ""
        return self.expectation + where


def audit_shards(
    staged: Mapping[str, pa.Table], space: LabelSpace, model_digest: str, gate: Gate = DEFAULT_GATE
) -> dict[str, list[Failure]]:
    """Return the failures of each shard that fails the contract of the results table, by its id.

    Checking many shards at once takes little longer than checking one.
    """
    schema, failures = results_schema(space), defaultdict(list)
    expected = [rows for rows in staged.values() if rows.schema.equals(schema)]
    others = [rows for rows in staged.values() if not rows.schema.equals(schema)]
    for rows in [*([pa.concat_tables(expected)] if expected else ()), *others]:
        for failure in audit(rows, space, model_digest, gate):
            for shard_id in failure.shards:
                failures[shard_id].append(failure)
    return dict(failures)


def audit(
    rows: pa.Table, space: LabelSpace, model_digest: str, gate: Gate = DEFAULT_GATE
) -> list[Failure]:
    """Check rows against the contract of the results table; return the failures.

    Args:
        rows: rows of any shards.
        space: label space of the model's distributions.
        model_digest: digest of the planned model.
        gate: permitted share of broken images in a shard.
    """
    shards = tuple(rows["shard_id"].unique().to_pylist())
    if different := set(rows.schema) ^ set(results_schema(space)):
        names = ", ".join(sorted({field.name for field in different}))
        return [Failure(f"{names}: columns match the results table", 0, (), shards)]
    frame = _with_checks(rows.select([*_CHECKED, *space.emotions]).to_pandas(), space, gate)
    batch, suite = _frames().get_batch({"dataframe": frame}), _suite(space, model_digest, gate)
    if batch.validate(suite, result_format="BOOLEAN_ONLY").success:  # much faster than COMPLETE
        return []
    result = batch.validate(suite, result_format="COMPLETE")
    return [_failure(item, frame) for item in result.results if not item.success]


@functools.cache
def _frames() -> Any:
    """Return Great Expectations' access to data frames. Importing it takes seconds."""
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
    """Add columns derived from several others, so that one expectation can test each."""
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


def _expect(kind: type, text: str, **settings: Any) -> Any:
    """Make an expectation that failures report as `text`."""
    return kind(meta={"text": text}, **settings)


def _expectations(space: LabelSpace, model_digest: str, gate: Gate) -> list[Any]:
    """Return the contract of the results table."""
    from great_expectations import expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    return [
        *_distribution_expectations(space),
        _expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "each identity has one row",
            column_list=list(IDENTITY),
        ),
        *(
            _expect(gxe.ExpectColumnValuesToNotBeNull, f"{name} is present", column=name)
            for name in ("bucket", "key", "etag", "run_id", "scored_at", "data_date")
        ),
        _expect(in_set, "status is known", column="status", value_set=list(map(str, Status))),
        _expect(in_set, "reason is known", column="reason", value_set=list(map(str, Reason))),
        _expect(
            in_set,
            "rejected rows have a reason and no others do",
            column="reason_fits_status",
            value_set=[True],
        ),
        _expect(
            in_set,
            "the model is the planned one",
            column="model_digest",
            value_set=[model_digest],
        ),
        _expect(
            between,
            f"at most {gate.max_broken:.0%} of a shard's images are broken; to accept them, start "
            "a run with max_broken = 1",
            column="broken",
            max_value=gate.max_broken,
        ),
    ]


def _distribution_expectations(space: LabelSpace) -> list[Any]:
    """Return the expectations of probabilities and brightness."""
    from great_expectations import expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    low, high = 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE
    return [
        _expect(in_set, "rejected rows have no distribution", column="invented", value_set=[False]),
        _expect(
            between,
            "every emotion has a probability",
            column="distribution_size",
            min_value=len(space),
        ),
        _expect(
            between,
            f"distributions sum to 1 within {SUM_TOLERANCE}",
            column="distribution_sum",
            min_value=low,
            max_value=high,
        ),
        *(
            _expect(
                between,
                f"{name} is between 0 and 1",
                column=name,
                min_value=0,
                max_value=1,
            )
            for name in (*space.emotions, "brightness")
        ),
    ]


def _failure(result: Any, frame: pd.DataFrame) -> Failure:
    text = result.expectation_config.meta["text"]
    if result.exception_info.get("raised_exception"):
        text += f" (the check itself failed: {result.exception_info['exception_message']})"
    index = result.result.get("unexpected_index_list") or []
    keys = frame.loc[index[:_MOST_EXAMPLES], "key"]
    shards = (frame.loc[index] if index else frame)["shard_id"].unique()
    return Failure(text, len(index), tuple(keys), tuple(shards))
