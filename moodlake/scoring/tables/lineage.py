"""Lineage of a results row: the run, model, training data and parameters behind it."""

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

_MAX_SUGGESTIONS = 3


@dataclass(frozen=True)
class Lineage:
    """A row and its origin.

    Attributes:
        row: row of the results table.
        current: whether this model has scored no newer version of the object.
        run: row of the runs table; None if no run wrote the row.
        params: parameters of the run.
        provenance: origin of the model: data, digests, parameters, metrics.
    """

    row: dict[str, Any]
    current: bool
    run: dict[str, Any] | None
    params: dict[str, Any]
    provenance: dict[str, Any]

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the known facts for display: title -> name -> value."""
        row, run, made = self.row, self.run or {}, self.provenance
        sections: dict[str, dict[str, Any]] = {
            "object": {
                "etag": row["etag"],
                "version": row["version_id"],
                "bytes": row["size"],
                "last changed (UTC date)": row["data_date"],
                "read as": row["face_mode"],
                "rejection detail": row.get("detail"),
            },
            "run": {
                "id": row["run_id"],
                "shard": row["shard_id"],
                "scored at": row["scored_at"],
                "started by": run.get("started_by") or "hand, without a run record",
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
    """Return all rows of an object, newest first: one per version and model.

    Args:
        key: key of the object.
        settings: settings with the locations of the tables.
        bucket: bucket of the object; None for all buckets.

    Raises:
        UserError: there is no row; the message suggests keys that end in `/{key}`.
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
    similar: set[str] = set()
    for batch in scan(DeltaTable(uri), ["bucket", "key"], like):
        similar.update(f"{row['key']!r} of bucket {row['bucket']!r}" for row in batch.to_pylist())
        if len(similar) >= _MAX_SUGGESTIONS:
            break
    if similar:
        message += f"; did you mean {', '.join(sorted(similar)[:_MAX_SUGGESTIONS])}?"
    return UserError(message)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten nested parameters to names such as `section.name`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = json.dumps(value)
    return flat
