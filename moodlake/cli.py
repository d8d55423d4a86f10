"""The `moodlake` command."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from deltalake.exceptions import DeltaError, TableNotFoundError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from infra.local.ports import Ports
from infra.local.stack import Stack, StackError, attach, ensure_stopped, take_down
from moodlake.faces import FaceMode
from moodlake.model import BundleError, Model
from moodlake.reasons import Status
from moodlake.release import compare, promote
from moodlake.scoring.client import ServerClient, ServerError
from moodlake.scoring.inventory import SourceError, open_source
from moodlake.scoring.outputs import export, open_writer
from moodlake.scoring.scorer import Engine, score_objects, take
from moodlake.scoring.tables import ResultsTable, emotion_columns
from moodlake.settings import PROJECT_ROOT, RELEASED_ARCHIVE, Settings

DEFAULT_STATE = PROJECT_ROOT / ".moodlake"
CANDIDATE_ARCHIVE = PROJECT_ROOT / "build" / "emotions.mar"

# What a person can mend: told in one message, without a traceback.
_MENDABLE = (BundleError, DeltaError, OSError, ServerError, SourceError, StackError, ValueError)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From images in a bucket to a table of emotion distributions.\n\n"
    "`moodlake demo` shows the whole of it; `moodlake score photos/ --out results.csv` scores a "
    "folder at once.",
)
console = Console()
errors = Console(stderr=True)

StateDir = Annotated[
    Path, typer.Option("--state", help="Where the local servers keep their files and logs.")
]
ArchivePath = Annotated[Path, typer.Option("--model", help="The archive (.mar) of the model.")]


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors that a person can mend into one message and exit code 1."""
    try:
        yield
    except TableNotFoundError as error:
        errors.print("[bold red]error:[/] there is no results table yet; score something first")
        raise typer.Exit(1) from error
    except _MENDABLE as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def up(
    state: StateDir = DEFAULT_STATE,
    model: ArchivePath = RELEASED_ARCHIVE,
    free_ports: Annotated[bool, typer.Option(help="Take any free ports.")] = False,
) -> None:
    """Start S3, TorchServe and Airflow on this machine; Ctrl-C or `moodlake down` stops them."""
    with explained(), _stopping_cleanly() as stopped:
        stack = Stack(state, Ports.free() if free_ports else Ports(), model)
        stack.start(lambda line: console.print(f"[green]✓[/] {escape(line)}", soft_wrap=True))
        try:
            console.print(f"Airflow's user is admin, its password {stack.airflow.password}")
            console.print(f"Drop images into s3://{stack.settings.images_bucket}. Ctrl-C stops.")
            stopped.wait()
        finally:
            _stop(stack)
            console.print("Stopped.")


@app.command()
def down(state: StateDir = DEFAULT_STATE) -> None:
    """Stop what `moodlake up` started."""
    with explained():
        take_down(state)
    console.print("Stopped.")


@app.command()
def status(state: StateDir = DEFAULT_STATE) -> None:
    """Show whether each local service works, by using it; exit code 1 if one does not."""
    with explained():
        services = attach(state).status()
    shown = Table("service", "ready", "address", "seen", "logs")
    for item in services:
        mark = "[green]yes" if item.ready else "[red]no"
        shown.add_row(item.name, mark, item.url, escape(item.detail), item.log)
    console.print(shown)
    if not all(item.ready for item in services):
        raise typer.Exit(1)


@app.command()
def demo(
    model: ArchivePath = RELEASED_ARCHIVE,
    keep: Annotated[bool, typer.Option(help="Keep the servers until Ctrl-C.")] = False,
) -> None:
    """Score real photos: start everything, drop them into the bucket, let Airflow do the work."""
    from infra.local.demo import run_demo

    def announce(line: str) -> None:
        console.print(f"[dim]›[/] {escape(line)}", soft_wrap=True)

    with explained(), _stopping_cleanly() as stopped:
        state = DEFAULT_STATE / "demo"
        ensure_stopped(state)
        shutil.rmtree(state, ignore_errors=True)
        stack = Stack(state, Ports.free(), model)
        try:
            announce("starting S3, TorchServe and Airflow (about half a minute)")
            stack.start(announce)
            result = run_demo(stack, state, announce)
            print_results(result.rows, limit=50)
            console.print(f"Table:   {result.table}", soft_wrap=True)
            console.print(f"Report:  {result.report}", soft_wrap=True)
            if keep:
                password = stack.airflow.password
                console.print(f"Airflow: {stack.airflow.url} (admin, {password}). Ctrl-C stops.")
                stopped.wait()
            else:
                console.print("Airflow: `moodlake demo --keep` leaves its page open")
        finally:
            _stop(stack)


@app.command()
def score(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Folders, files, ZIPs or s3://bucket/prefix."),
    ],
    out: Annotated[str, typer.Option(help="*.csv, *.parquet, or a folder or s3:// for Delta.")],
    faces: Annotated[
        FaceMode | None, typer.Option(help="What to read; the model's own way if not given.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a model server; else score in this process.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="The server's key_file.json, if it wants a token.")
    ] = None,
    model: ArchivePath = RELEASED_ARCHIVE,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per request.")] = 16,
) -> None:
    """Score images and write one row for each: scored, or rejected with its reason."""
    with explained():
        opened = [open_source(text) for text in sources]
        engine = _engine(endpoint, keys, model)
        run_id = f"cli-{uuid.uuid4().hex[:12]}"
        counts: Counter[str] = Counter()
        with open_writer(out, engine.space) as writer:
            for source in opened:
                rows = score_objects(
                    source, engine, run_id=run_id, faces=faces, batch_size=batch_size
                )
                for chunk in take(_tracked(rows, source.total), 1000):
                    writer.write(chunk)
                    counts.update(row["status"] for row in chunk)
    console.print(f"{counts['scored']} scored, {counts['rejected']} rejected -> [bold]{out}")


@app.command()
def table(
    out: Annotated[
        str | None, typer.Option(help="Export to *.csv or *.parquet instead of printing.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only the rows that this run wrote.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 50,
    uri: Annotated[
        str | None, typer.Option(help="A Delta table; that of the running stack if not given.")
    ] = None,
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Print the results table, or export it."""
    with explained():
        if uri is None and "MOODLAKE_RESULTS_URI" not in os.environ:
            attach(state).point_here()
        rows = ResultsTable(uri or Settings.from_environment().results_table).read(run)
        if out:
            export(rows, out)
            console.print(f"{rows.num_rows} rows -> [bold]{out}")
        else:
            print_results(rows, limit)


@app.command()
def release(
    candidate: Annotated[Path, typer.Argument(help="The archive to release.")] = CANDIDATE_ARCHIVE,
    released: Annotated[Path, typer.Option(help="The archive it replaces.")] = RELEASED_ARCHIVE,
    force: Annotated[bool, typer.Option(help="Also if the metrics do not compare.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show both models' metrics and promote the candidate to the released archive."""
    with explained():
        comparisons = compare(candidate, released, force=force)
    shown = Table("metric", "released", "candidate", title="Validation metrics")
    for item in comparisons:
        values = (item.released, item.candidate)
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        shown.add_row(item.metric, *cells, style="red" if item.is_worse else None)
    console.print(shown)
    if not yes:
        typer.confirm(f"Replace {released} with {candidate}?", abort=True)
    with explained():
        promote(candidate, released)
    console.print(f"Released [bold]{released}[/]. Update model_store/MODEL_CARD.md; commit both.")


def print_results(rows: pa.Table, limit: int) -> None:
    """The most telling columns of a results table, as a table in the terminal."""
    image = Column("image", overflow="fold")
    shown = Table(image, "reads as", "confidence", "then", "entropy", "faces")
    emotions = emotion_columns(rows.schema)
    for row in rows.slice(0, limit).to_pylist():
        if row["status"] == Status.SCORED:
            ranked = sorted(emotions, key=lambda emotion: -(row[emotion] or 0))
            others = ", ".join(f"{name} {row[name]:.0%}" for name in ranked[1:3])
            outcome = [
                f"[bold]{row['dominant']}",
                f"{row['confidence']:.0%}",
                others,
                f"{row['entropy']:.2f}",
                str(row["faces"]),
            ]
        else:
            outcome = [f"[yellow]{row['reason']}"]
        shown.add_row(escape(row["key"]), *outcome)
    console.print(shown)
    if rows.num_rows > limit:
        console.print(f"{limit} of {rows.num_rows} rows; --limit shows more, --out exports all")


@contextmanager
def _stopping_cleanly() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, or that interrupts whatever else is going on."""
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped
    except KeyboardInterrupt as error:
        raise typer.Exit(0 if stopped.is_set() else 130) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(stack: Stack) -> None:
    """Stop the servers; a second Ctrl-C must not leave half of them running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stack.stop()


def _engine(endpoint: str | None, keys: Path | None, model: Path) -> Engine:
    if endpoint:
        return ServerClient(endpoint, keys or Settings.from_environment().server_keys)
    return Model.load(model, streams=os.cpu_count() or 1)


def _tracked(rows: Iterable[dict[str, Any]], total: int | None) -> Iterator[dict[str, Any]]:
    """The rows as they come, with a progress bar while they do."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        yield from progress.track(rows, total=total, description="Scoring")
