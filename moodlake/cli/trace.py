"""The command `trace`: where a row of results comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, explained
from moodlake.cli.results import point_at_tables

if TYPE_CHECKING:
    from moodlake.scoring.lineage import Lineage


def trace(
    key: Annotated[str, typer.Argument(help="An object's key, or s3://bucket/key.")],
    bucket: Annotated[str | None, typer.Option(help="All buckets if not given.")] = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Show what is behind an image's rows: run, model, training data, parameters."""
    if key.startswith("s3://"):
        bucket, _, key = key.removeprefix("s3://").partition("/")
    with explained():
        from moodlake.scoring import lineage

        found = lineage.trace(key, point_at_tables(state), bucket)
    for item in found:
        for line in _lines(item):
            # A digest that is broken over lines cannot be searched for.
            console.print(line, soft_wrap=True, highlight=False)


def _lines(item: Lineage) -> Iterator[str]:
    """What is known, section by section, with rich's markup."""
    row, run, made = item.row, item.run or {}, item.provenance
    outcome = f"{row['dominant']} {row['confidence']:.2f}" if row["dominant"] else row["reason"]
    older = "" if item.current else " [dim](an older version of the object)[/]"
    name = escape(f"{row['bucket']}/{row['key']}")
    yield f"[bold]{name}[/]: {outcome}, by {row['model_name']} {row['model_version']}{older}"
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
            **item.params,
        },
        "model": {"digest": row["model_digest"], "weights": made.get("weights_sha256")},
        "data": {"name": made.get("data_name"), "digest": made.get("data_digest")},
        "made from": made.get("sources") or {},
        "parameters": _flat(made.get("params") or {}),
        "measured on its validation data": made.get("metrics") or {},
    }
    for title, facts in sections.items():
        there = {name: value for name, value in facts.items() if value not in (None, "")}
        if there:
            yield f"  [bold]{title}[/]"
        yield from (f"    {escape(f'{name}: {value}')}" for name, value in there.items())


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested parameters as `section.name`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = json.dumps(value)
    return flat
