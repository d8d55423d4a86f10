"""From a row of results back to the run, the model, the data and the parameters behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
from deltalake import DeltaTable

from moodlake.errors import UserError
from moodlake.scoring.tables.current import current_identities
from moodlake.scoring.tables.delta import scan
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.runs import publishing_run
from moodlake.scoring.tables.schema import IDENTITY
from moodlake.settings import Settings

_ALIKE = 3


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

    def sections(self) -> dict[str, dict[str, Any]]:
        """What is known, for people: title -> name -> value."""
        row, run, made = self.row, self.run or {}, self.provenance
        sections: dict[str, dict[str, Any]] = {
            "object": {
                "etag": row["etag"],
                "version": row["version_id"],
                "bytes": row["size"],
                "last changed (UTC date)": row["data_date"],
                "read as": row["face_mode"],
                "rejected because": row.get("detail"),
            },
            "run": {
                "id": row["run_id"],
                "shard": row["shard_id"],
                "scored at": row["scored_at"],
                "started by": run.get("started_by") or "hand, without a record",
                "git commit": run.get("git_commit"),
                "dvc.lock": run.get("dvc_lock"),
                "problem": run.get("problem"),
                **self.params,
            },
            "model": {"digest": row["model_digest"], "weights": made.get("weights_sha256")},
            "data": {"name": made.get("data_name"), "digest": made.get("data_digest")},
            "made from": made.get("sources") or {},
            "parameters": _flat(made.get("params") or {}),
            "measured on its validation data": made.get("metrics") or {},
        }
        known = {
            title: {name: value for name, value in facts.items() if value not in (None, "")}
            for title, facts in sections.items()
        }
        return {title: facts for title, facts in known.items() if facts}


def trace(key: str, settings: Settings, bucket: str | None = None) -> list[Lineage]:
    """All rows of an object, the newest first: one for each of its versions and models.

    Args:
        key: of the object.
        settings: where the tables are.
        bucket: None for all buckets.

    Raises:
        UserError: there is none; the message names keys that end like this one.
    """
    table = ResultsTable(settings.results_table)
    stored = table.find(key, bucket)
    if not stored.num_rows:
        raise _not_found(key, bucket, table.uri)
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


def _not_found(key: str, bucket: str | None, uri: str) -> UserError:
    where = f" of bucket {bucket!r}" if bucket else ""
    message = f"no row of {key!r}{where} in {uri}"
    like = (pc.field("key") == key) | pc.ends_with(pc.field("key"), f"/{key}")
    alike: set[str] = set()
    for batch in scan(DeltaTable(uri), ["bucket", "key"], like).to_batches():
        alike.update(f"{row['key']!r} of bucket {row['bucket']!r}" for row in batch.to_pylist())
        if len(alike) >= _ALIKE:
            break
    if alike:
        message += f"; there is {', '.join(sorted(alike)[:_ALIKE])}"
    return UserError(message)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested parameters as `section.name`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = json.dumps(value)
    return flat
