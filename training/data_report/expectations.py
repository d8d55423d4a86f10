"""Check the prepared samples with Great Expectations."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from moodlake.emotions import SUM_TOLERANCE, LabelSpace
from moodlake.inference.decoding import decode
from moodlake.reasons import Rejected

_MOST_EXAMPLES = 10


def check(samples: pd.DataFrame, space: LabelSpace) -> list[dict[str, Any]]:
    """Return the outcome of each expectation: its text, success, and ids of failing rows.

    Args:
        samples: the rows of the prepared file; see training.data_set.samples.
        space: the label space of the votes.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    frame = _with_checks(samples.reset_index(drop=True), space)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("samples")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    suite = gx.ExpectationSuite("samples", expectations=_expectations())
    result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    outcomes = [_outcome(item, frame) for item in result.results]
    return [*outcomes, *_coverage(frame, space)]


def _with_checks(frame: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    votes = frame["votes"].map(lambda row: np.asarray(row, float))
    distributions = frame["distribution"].map(lambda row: np.asarray(row, float))
    held_out = set(frame.loc[frame["split"] != "train", "pixels_sha256"])
    return frame.assign(
        vote_count=votes.map(np.sum),
        least_votes=votes.map(np.min),
        vote_columns=votes.map(len),
        distribution_sum=distributions.map(np.sum),
        leading=distributions.map(lambda row: space.emotions[int(np.argmax(row))]),
        decodes=frame["image"].map(_decodes),
        leaks=(frame["split"] == "train") & frame["pixels_sha256"].isin(held_out),
        emotions=len(space),
    )


def _decodes(data: bytes) -> bool:
    try:
        decode(data)
    except Rejected:
        return False
    return True


def _expectations() -> list[Any]:
    from great_expectations import expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    low, high = 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE
    return [
        gxe.ExpectColumnValuesToBeUnique(column="id", meta={"words": "ids are unique"}),
        in_set(
            column="split", value_set=["train", "valid", "test"], meta={"words": "splits are known"}
        ),
        between(
            column="vote_count",
            min_value=0,
            strict_min=True,
            meta={"words": "votes are present"},
        ),
        between(column="least_votes", min_value=0, meta={"words": "no votes are negative"}),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="vote_columns",
            column_B="emotions",
            meta={"words": "one count of votes for each emotion"},
        ),
        between(
            column="distribution_sum",
            min_value=low,
            max_value=high,
            meta={"words": "distributions sum to 1"},
        ),
        in_set(column="decodes", value_set=[True], meta={"words": "images decode"}),
        in_set(
            column="leaks",
            value_set=[False],
            meta={"words": "no training image is also a validation image"},
        ),
    ]


def _outcome(result: Any, frame: pd.DataFrame) -> dict[str, Any]:
    index = result.result.get("unexpected_index_list") or []
    ids = frame.loc[index, "id"].tolist()
    return {
        "expectation": result.expectation_config.meta["words"],
        "success": bool(result.success),
        "rows": len(ids),
        "ids": ids[:_MOST_EXAMPLES],
    }


def _coverage(frame: pd.DataFrame, space: LabelSpace) -> list[dict[str, Any]]:
    """Check that every emotion leads in some row of each split."""
    outcomes = []
    for split in ("train", "valid"):
        missing = sorted(set(space.emotions) - set(frame.loc[frame["split"] == split, "leading"]))
        words = f"every emotion leads somewhere in {split}"
        if missing:
            words += (
                f" (missing: {', '.join(missing)}); add images of it, two at least for a split "
                "made here, raise data.valid_share, or leave it out of the label space"
            )
        outcomes.append({"expectation": words, "success": not missing, "rows": 0, "ids": []})
    return outcomes
