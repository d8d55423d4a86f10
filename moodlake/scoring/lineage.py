"""From a row of results back to the run, the model, the data and the parameters behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from moodlake.reasons import Reason
from moodlake.scoring.results import ResultsTable
from moodlake.scoring.runs import publishing_run
from moodlake.settings import Settings


@dataclass(frozen=True)
class Lineage:
    """One row and what made it.

    Attributes:
        row: of the results.
        current: this model has not read a newer version of the object.
        run: of the table of runs; None if the row was written without one, by hand.
        params: what was asked of the run.
        provenance: what the model was made from: data, digests, parameters, metrics.
    """

    row: dict[str, Any]
    current: bool
    run: dict[str, Any] | None
    params: dict[str, Any]
    provenance: dict[str, Any]


def trace(key: str, settings: Settings, bucket: str | None = None) -> list[Lineage]:
    """All rows of an object, the newest first: one for each of its versions and models.

    Args:
        key: of the object.
        settings: where the tables are.
        bucket: None for all buckets.
    """
    rows = ResultsTable(settings.results_table).find(key, bucket).to_pylist()
    rows.sort(key=lambda row: row["scored_at"], reverse=True)
    seen: set[tuple[str, str]] = set()
    found = []
    for row in rows:
        run = publishing_run(settings.runs_table, row["run_id"], row["scored_at"]) or {}
        model = (row["bucket"], row["model_digest"])
        passing = row["reason"] is not None and Reason(row["reason"]).is_passing
        found.append(
            Lineage(
                row=row,
                current=not passing and model not in seen,
                run=run or None,
                params=json.loads(run.get("params") or "{}"),
                provenance=json.loads(run.get("provenance") or "{}"),
            )
        )
        if not passing:  # it tells of no version that there is
            seen.add(model)
    return found
