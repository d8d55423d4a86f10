"""The `diff` command: comparison of two models."""

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

_FORMAT = "Version or leading digits of the digest. Default: "
OldModel = Annotated[str | None, typer.Argument(help=f"{_FORMAT}the model that scored before NEW.")]
NewModel = Annotated[str | None, typer.Argument(help=f"{_FORMAT}the most recent model.")]


def diff(
    old: OldModel = None,
    new: NewModel = None,
    bucket: Annotated[str | None, typer.Option(help="Bucket to compare. Default: all.")] = None,
    prefix: Annotated[str, typer.Option(help="Compare only keys with this prefix.")] = "",
    out: Annotated[Path | None, typer.Option(help="HTML report to write.")] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Include small copies of the most changed images in the report.")
    ] = False,
    uri: TableUri = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Compare the scores of two models for the same images."""
    with report_errors():
        from deltalake import DeltaTable

        from moodlake.scoring.reports.diff import compare
        from moodlake.scoring.reports.diff_report import render_diff
        from moodlake.scoring.sources.s3 import image_of, s3_client

        table = DeltaTable(uri or point_at_tables(state, has_uri=True).results_table)
        found = compare(table, old, new, bucket=bucket, prefix=prefix)
        _print(found)
        if out:
            read = partial(image_of, s3_client()) if thumbnails else None
            out.write_text(render_diff(found, read_image=read), "utf-8")
            console.print(f"Report: {out}", soft_wrap=True)


def _print(found: Diff) -> None:
    """Print the main numbers, and the images by dominant emotion."""
    changes = found.changes
    console.print(
        f"{found.old} -> {found.new}: {changes.pairs} images scored by both", soft_wrap=True
    )
    console.print(
        f"dominant emotion changed for {100 * changes.changed:.1f} %; Jensen-Shannon distance: "
        f"mean {changes.mean_distance:.3f}, median {changes.quantiles[0.5]:.3f}",
        soft_wrap=True,
    )
    for model, reasons in ((found.new, found.only_old), (found.old, found.only_new)):
        if reasons:
            counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            console.print(f"scored by the other model but not by {model}: {counts}", soft_wrap=True)
    shown = Table("emotion", "old", "new", "unchanged", "mean shift, %")
    transitions = changes.transitions
    for index, emotion in enumerate(found.emotions):
        totals = (transitions[index].sum(), transitions[:, index].sum())
        unchanged = transitions[index, index]
        shown.add_row(
            emotion, *map(str, (*totals, unchanged)), f"{100 * changes.shift[index]:+.2f}"
        )
    console.print(shown)
