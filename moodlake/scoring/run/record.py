"""The record of a finished run: its row in the runs table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from moodlake.scoring.run.code_version import dvc_lock, git_commit
from moodlake.scoring.run.policy import Prices
from moodlake.scoring.run.staging import Run
from moodlake.scoring.tables.summary import Summary

_DAG_VARIABLE = "AIRFLOW_CTX_DAG_ID"  # Airflow sets it for its tasks
AT_WORK = ("task_cores", "decode", "detect", "infer")
"""Steps measured in core-seconds: of the tasks, and of the model server."""


def run_record(
    run: Run,
    summary: Summary,
    problems: Sequence[str],
    seconds: Mapping[str, float],
    prices: Prices,
) -> dict[str, Any]:
    """Return the row, in RUNS_SCHEMA, of a run that ends now.

    Args:
        run: plan of the run.
        summary: summary of the rows that passed the gate.
        problems: one message for each shard that was not published.
        seconds: seconds of all shards together, by step.
        prices: prices for the cost estimate.
    """
    started_at, ended_at = datetime.fromisoformat(run.started_at), datetime.now(UTC)
    elapsed = (ended_at - started_at).total_seconds()
    return {
        "run_id": run.run_id,
        "bucket": run.params.bucket,
        "prefix": run.params.prefix,
        "listed": run.listed,
        "waiting": run.pending_objects,
        "model_name": run.model.name,
        "model_version": run.model.version,
        "model_digest": run.model.digest,
        "provenance": json.dumps(run.provenance),
        "started_by": run.started_by,
        "dag_id": os.environ.get(_DAG_VARIABLE),
        "git_commit": git_commit(),
        "dvc_lock": dvc_lock(),
        "params": json.dumps(asdict(run.params)),
        "objects": summary.objects,
        "bytes": summary.bytes,
        "shards": len(run.shard_ids),
        "scored": summary.scored,
        "rejected": summary.objects - summary.scored,
        "reasons": json.dumps(summary.reasons, sort_keys=True),
        "problem": _problem(problems, len(run.shard_ids)),
        "started_at": started_at,
        "ended_at": ended_at,
        # The clock may have been set back during the run.
        "images_per_second": summary.objects / elapsed if elapsed > 0 else None,
        "seconds": json.dumps(dict(seconds)),
        "cost_per_million": prices.per_million(
            sum(seconds.get(step, 0.0) for step in AT_WORK), summary.objects
        ),
    }


def _problem(problems: Sequence[str], shards: int) -> str | None:
    if not problems:
        return None
    return (
        f"{len(problems)} of {shards} shards were not published; {problems[0]}. "
        "Rows that passed are in the table; a new run takes the rest"
    )
