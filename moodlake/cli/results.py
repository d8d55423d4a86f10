"""Commands for results and models: score, table, release."""

from __future__ import annotations

import itertools
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from moodlake.cli.console import (
    DEFAULT_STATE,
    DEMO_STATE,
    StateDir,
    TableUri,
    console,
    errors,
    report_errors,
    stopping_cleanly,
)
from moodlake.cli.options import option_of
from moodlake.errors import UserError
from moodlake.local_stack import StackError, environment_of, point_here
from moodlake.prediction import FaceMode
from moodlake.reasons import Status, outcomes
from moodlake.scoring.run.params import RunParams
from moodlake.settings import CANDIDATE_ARCHIVE, RELEASED_ARCHIVE, Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from moodlake.scoring.run.scorer import Engine

_BATCH_ROWS = 2000


def score(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC", help="Folders, files, ZIPs or s3://bucket/prefix."),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="*.csv or *.parquet file, or a folder or s3:// prefix for a Delta table."
        ),
    ],
    faces: Annotated[FaceMode | None, option_of(RunParams, "faces")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a model server. Default: score in this process.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="With --endpoint: the server's key_file.json, if needed.")
    ] = None,
    model: Annotated[
        Path, typer.Option("--model", help="Model archive (.mar). Not used with --endpoint.")
    ] = RELEASED_ARCHIVE,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Images per batch, or per request with --endpoint."),
    ] = 16,
) -> None:
    """Score images and write one row for each: scored, or rejected with a reason."""
    with report_errors(), stopping_cleanly(terminated=143):
        from moodlake.scoring.run.scorer import score_objects, take
        from moodlake.scoring.sources.local import open_source
        from moodlake.scoring.sources.objects import SourceError
        from moodlake.scoring.tables.writers import open_writer

        opened = [open_source(text) for text in sources]
        engine = _engine(endpoint, keys, model)
        run_id = f"cli-{uuid.uuid4().hex[:12]}"
        counts: Counter[str] = Counter()
        written = 0
        with open_writer(out, engine.space) as writer:
            for text, source in zip(sources, opened, strict=True):
                before = counts.total()
                rows = score_objects(
                    source, engine, run_id=run_id, faces=faces, batch_size=batch_size
                )
                for chunk in take(_tracked(rows, source.total), 1000):
                    written += writer.write(chunk)
                    counts.update(row["reason"] or row["status"] for row in chunk)
                if counts.total() == before:
                    raise SourceError(f"no files in {text}")
    console.print(f"{outcomes(counts)} -> [bold]{escape(out)}", soft_wrap=True)
    if existing := counts.total() - written:
        console.print(
            f"{existing} images already have rows by this model in the table; these are unchanged. "
            "To score them with other options, use another table"
        )


def table(
    out: Annotated[
        str | None,
        typer.Option(help="*.csv or *.parquet file, or folder for a Delta table. Default: print."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Id of a run. Default: rows of all runs.")] = None,
    current: Annotated[
        bool, typer.Option("--current", help="Only the newest row of each image and model.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to print.")] = 50,
    uri: TableUri = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Print the results table, or export it."""
    with report_errors():
        import pyarrow as pa
        from deltalake import DeltaTable

        from moodlake.scoring.tables.current import ordered_rows
        from moodlake.scoring.tables.writers import export

        opened = DeltaTable(uri or point_at_tables(state, has_uri=True).results_table)
        chosen = ordered_rows(opened, run, current=current, batch_rows=_BATCH_ROWS)
        with chosen as (count, rows):
            if run and not count:
                raise UserError(f"no rows of run {run!r} in {opened.table_uri}")
            if out:
                console.print(f"{export(rows, out)} rows -> [bold]{out}")
                return
            first = itertools.islice(rows, math.ceil(limit / _BATCH_ROWS))
            print_results(pa.Table.from_batches(first, rows.schema), limit, count)


def point_at_tables(state: Path, *, has_uri: bool = False) -> Settings:
    """Return the settings of the environment, or else of the running stack.

    Args:
        state: folder of the stack.
        has_uri: whether the command has the option --uri, which the error then names.

    Raises:
        UserError: the environment names no results, and no local stack is running.
    """
    if "results_uri" not in Settings.configured():
        try:
            point_here(environment_of(state))
        except StackError as error:
            variable = Settings.variable("results_uri")
            others = f", set {variable}, or pass --uri" if has_uri else f", or set {variable}"
            left = DEMO_STATE / "results.parquet"
            hint = f". The results of the last demo are in {left}" if left.exists() else ""
            raise UserError(f"{error}{others}{hint}") from error
    return Settings.from_environment()


def release(
    candidate: Annotated[Path, typer.Argument(help="Archive to release.")] = CANDIDATE_ARCHIVE,
    released: Annotated[Path, typer.Option(help="Archive to replace.")] = RELEASED_ARCHIVE,
    force: Annotated[
        bool, typer.Option(help="Release even if the metrics are not comparable.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Release without confirmation.")] = False,
) -> None:
    """Compare a candidate's metrics with the released model's; on confirmation, replace it."""
    from moodlake.release import check_comparable, compare, promote

    with report_errors():
        comparisons = compare(candidate, released)
    shown = Table("metric", "released", "candidate", title="Validation metrics")
    for item in comparisons:
        values = (item.released, item.candidate)
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        shown.add_row(item.metric, *cells, style="red" if item.is_worse else None)
    console.print(shown)
    if not force:
        with report_errors():
            check_comparable(candidate, released)
    if not yes:
        typer.confirm(f"Replace {released} with {candidate}?", abort=True)
    with report_errors():
        promote(candidate, released)
    console.print(f"Released [bold]{released}[/] with its model card beside it; commit both.")


def print_results(rows: pa.Table, limit: int, total: int | None = None) -> None:
    """Print the most important columns of results.

    Args:
        rows: first rows: at least `limit`, or all.
        limit: maximum number of rows to print.
        total: total number of rows; by default that of `rows`.
    """
    import pyarrow.compute as pc

    from moodlake.scoring.reports.html import percent
    from moodlake.scoring.tables.schema import emotion_columns

    first = rows.slice(0, limit)
    several = pc.count_distinct(first["model_digest"]).as_py() > 1
    shown = Table(
        Column("image", overflow="fold", min_width=24),
        *([Column("model", no_wrap=True)] if several else ()),
        Column("dominant\nemotion", no_wrap=True),
        Column("confidence", justify="right", no_wrap=True),
        Column("second\nemotion", no_wrap=True),
        Column("entropy", justify="right", no_wrap=True),
    )
    emotions = emotion_columns(rows.schema)
    for row in first.to_pylist():
        model = [f"{row['model_version']} {row['model_digest'][:4]}"] if several else []
        if row["status"] == Status.SCORED:
            ranked = sorted(emotions, key=lambda emotion: -(row[emotion] or 0))
            outcome = [
                f"[bold]{row['dominant']}",
                percent(row["confidence"]),
                f"{ranked[1]} {percent(row[ranked[1]])}",
                f"{row['entropy']:.2f}",
            ]
        else:
            outcome = [f"[yellow]{row['reason']}"]
        shown.add_row(escape(row["key"]), *model, *outcome)
    console.print(shown)
    if total is None:
        total = rows.num_rows
    if total > limit:
        console.print(f"{limit} of {total} rows; --limit prints more, --out exports all")


def _engine(endpoint: str | None, keys: Path | None, model: Path) -> Engine:
    from moodlake.inference.model import Model
    from moodlake.serving.client import connect

    if endpoint:
        settings = Settings.from_environment()
        changed = {"server_url": endpoint, "server_keys": keys or settings.server_keys}
        return connect(settings.model_copy(update=changed))
    return Model.load(model, streams=os.cpu_count() or 1)


def _tracked(rows: Iterable[dict[str, Any]], total: int | None) -> Iterator[dict[str, Any]]:
    """Pass rows through, showing a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        yield from progress.track(rows, total=total, description="Scoring")
