"""From a row of results back to the run, the model, the data and the parameters behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from moodlake.scoring.current import current_identities
from moodlake.scoring.results import ResultsTable
from moodlake.scoring.rows import IDENTITY
from moodlake.scoring.runs import publishing_run
from moodlake.settings import Settings


@dataclass(frozen=True)
class Lineage:
    """One row and what made it.

    Attributes:
        row: of the results.
        current: it is in the current view: this model has read no newer version of the object.
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
    stored = ResultsTable(settings.results_table).find(key, bucket)
    current = current_identities(stored)
    rows = sorted(stored.to_pylist(), key=lambda row: row["scored_at"], reverse=True)
    found = []
    for row in rows:
        run = publishing_run(settings.runs_table, row["run_id"], row["scored_at"]) or {}
        found.append(
            Lineage(
                row=row,
                current=tuple(row[name] for name in IDENTITY) in current,
                run=run or None,
                params=json.loads(run.get("params") or "{}"),
                provenance=json.loads(run.get("provenance") or "{}"),
            )
        )
    return found
