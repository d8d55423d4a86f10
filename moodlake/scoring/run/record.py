"""What is known of a run at its end: its row in the table of runs."""

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
"""Steps whose seconds are those of a core at work: the task's own, and the server's."""


def run_record(
    run: Run,
    summary: Summary,
    problems: Sequence[str],
    seconds: Mapping[str, float],
    prices: Prices,
) -> dict[str, Any]:
    """The row of RUNS_SCHEMA of a run that ends now.

    Args:
        run: as it was planned.
        summary: of the rows that passed the gate.
        problems: of the shards that were not published, in words.
        seconds: by step, of all shards together.
        prices: for the estimated cost.
    """
    started_at, ended_at = datetime.fromisoformat(run.started_at), datetime.now(UTC)
    elapsed = (ended_at - started_at).total_seconds()
    return {
        "run_id": run.run_id,
        "bucket": run.params.bucket,
        "prefix": run.params.prefix,
        "listed": run.listed,
        "waiting": run.waiting,
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
        "problem": _in_words(problems, len(run.shard_ids)),
        "started_at": started_at,
        "ended_at": ended_at,
        # The clock may have been set back meanwhile.
        "images_per_second": summary.objects / elapsed if elapsed > 0 else None,
        "seconds": json.dumps(dict(seconds)),
        "cost_per_million": prices.per_million(
            sum(seconds.get(step, 0.0) for step in AT_WORK), summary.objects
        ),
    }


def _in_words(problems: Sequence[str], shards: int) -> str | None:
    if not problems:
        return None
    return (
        f"{len(problems)} of {shards} shards were not published; {problems[0]}. "
        "What passed is in the table; a new run takes up the rest"
    )
