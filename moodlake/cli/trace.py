"""The `trace` command: the origin of an image's rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from moodlake.cli.console import DEFAULT_STATE, StateDir, console, report_errors
from moodlake.cli.results import point_at_tables

if TYPE_CHECKING:
    from moodlake.scoring.tables.lineage import Lineage


def trace(
    key: Annotated[str, typer.Argument(help="Key of an object, or s3://bucket/key.")],
    bucket: Annotated[str | None, typer.Option(help="Bucket of the object. Default: all.")] = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Show the origin of an image's rows: run, model, training data, parameters."""
    if key.startswith("s3://"):
        bucket, _, key = key.removeprefix("s3://").partition("/")
    with report_errors():
        from moodlake.scoring.tables import lineage

        found = lineage.trace(key, point_at_tables(state), bucket)
    for item in found:
        for line in _lines(item):
            # Wrapped digests could not be searched for.
            console.print(line, soft_wrap=True, highlight=False)


def _lines(item: Lineage) -> Iterator[str]:
    """Yield the known facts by section, with rich's markup."""
    row = item.row
    outcome = f"{row['dominant']} {row['confidence']:.2f}" if row["dominant"] else row["reason"]
    older = "" if item.current else " [dim](superseded by a newer version)[/]"
    name = escape(f"{row['bucket']}/{row['key']}")
    yield f"[bold]{name}[/]: {outcome}, by {row['model_name']} {row['model_version']}{older}"
    for title, facts in item.sections().items():
        yield f"  [bold]{title}[/]"
        yield from (f"    {escape(f'{name}: {value}')}" for name, value in facts.items())
