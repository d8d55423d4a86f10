"""The command `diff`: what a new model changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from moodlake.cli.console import DEFAULT_STATE, StateDir, TableUri, console, report_errors
from moodlake.cli.results import point_at_tables

if TYPE_CHECKING:
    from moodlake.scoring.reports.diff import Diff

_NAMED = "A version, or how a digest begins; if not given, "
OldModel = Annotated[str | None, typer.Argument(help=f"{_NAMED}the one before the newest.")]
NewModel = Annotated[str | None, typer.Argument(help=f"{_NAMED}the newest.")]


def diff(
    old: OldModel = None,
    new: NewModel = None,
    bucket: Annotated[str | None, typer.Option(help="All buckets if not given.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that start with this.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write a report: an HTML page.")] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Small copies of the most changed images in it, out of S3.")
    ] = False,
    uri: TableUri = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Compare what two models say of the same images."""
    with report_errors():
        from deltalake import DeltaTable

        from moodlake.scoring.reports.diff import compare
        from moodlake.scoring.reports.diff_report import render_diff
        from moodlake.scoring.sources.s3 import image_of, s3_client

        table = DeltaTable(uri or point_at_tables(state).results_table)
        found = compare(table, old, new, bucket=bucket, prefix=prefix)
        _print(found)
        if out:
            read = partial(image_of, s3_client()) if thumbnails else None
            out.write_text(render_diff(found, read_image=read), "utf-8")
            console.print(f"Report: {out}", soft_wrap=True)


def _print(found: Diff) -> None:
    """The numbers to look at first, and images by their most probable emotion."""
    changes = found.changes
    console.print(
        f"{found.old} -> {found.new}: {changes.pairs} images scored by both", soft_wrap=True
    )
    console.print(
        f"{100 * changes.changed:.1f} % read as another emotion; mean Jensen-Shannon distance "
        f"{changes.mean_distance:.3f}, half within {changes.quantiles[0.5]:.3f}",
        soft_wrap=True,
    )
    for model, reasons in ((found.new, found.only_old), (found.old, found.only_new)):
        if reasons:
            told = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            console.print(f"not scored by {model} but by the other: {told}", soft_wrap=True)
    shown = Table("emotion", "old", "new", "stayed", "mean shift, %")
    moved = changes.transitions
    for index, emotion in enumerate(found.emotions):
        counts = (moved[index].sum(), moved[:, index].sum(), moved[index, index])
        shown.add_row(emotion, *map(str, counts), f"{100 * changes.shift[index]:+.2f}")
    console.print(shown)
