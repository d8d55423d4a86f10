"""Rows of the results table for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode, ModelIdentity, Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.staging import Run
from moodlake.scoring.sources.objects import SourceObject
from moodlake.scoring.tables.schema import make_row, to_table

SPACE = label_space("ferplus")
MODEL = ModelIdentity("emotions", "1.0", "d" * 64)


def scored(key: str) -> Prediction:
    """A scored image without faces; the key decides its distribution."""
    probabilities = np.random.default_rng(len(key)).dirichlet(np.ones(8))
    return Prediction.scored(probabilities, SPACE, width=8, height=8, format="PNG")


def row(
    key: str,
    *,
    reason: Reason | None = None,
    digest: str = MODEL.digest,
    modified: str = "2026-01-02T23:00:00+00:00",
    prediction: Prediction | None = None,
) -> dict[str, Any]:
    """A row of a prediction: the one given, one rejected for `reason`, or a scored one."""
    if reason:
        prediction = Prediction.rejected(Rejected(reason, "made"))
    return make_row(
        SourceObject("bucket", key, "etag", 10, modified),
        prediction or scored(key),
        space=SPACE,
        model=ModelIdentity("emotions", "1.0", digest),
        faces=FaceMode.NONE,
        run_id="run",
        shard_id="shard",
    )


def planned(**changes: Any) -> Run:
    """The plan of a run of the bucket `bucket`."""
    about: dict[str, Any] = {
        "run_id": "run",
        "params": RunParams("bucket"),
        "model": MODEL,
        "space": SPACE,
        "provenance": {},
        "shard_ids": (),
        "retried": (),
        "commits": 0,
        "listed": 0,
        "pending_objects": 0,
        "started_by": "hand",
        "started_at": "2026-01-05T00:00:00+00:00",
    }
    return Run(**about | changes)


def table(*rows: dict[str, Any]) -> pa.Table:
    return to_table(rows, SPACE)
