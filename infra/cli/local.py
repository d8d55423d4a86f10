"""Commands for the local servers: up, put, run, env, status, down, demo."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from moodlake.cli.console import (
    DEFAULT_STATE,
    DEMO_STATE,
    ArchivePath,
    StateDir,
    console,
    errors,
    report_errors,
    stop_undisturbed,
    stopping_cleanly,
)
from moodlake.cli.options import with_options_of
from moodlake.cli.results import outcomes, print_results
from moodlake.reasons import Status
from moodlake.scoring.run.params import RunParams
from moodlake.settings import RELEASED_ARCHIVE, Settings


def up(
    state: StateDir = DEFAULT_STATE,
    model: ArchivePath = RELEASED_ARCHIVE,
    free_ports: Annotated[
        bool, typer.Option(help="Use free ports instead of the defaults.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Number of Celery workers; also starts Redis and PostgreSQL. 0: no Celery."
        ),
    ] = 0,
    app: Annotated[
        bool, typer.Option("--app", help="Also start the web app; see `moodlake app`.")
    ] = False,
) -> None:
    """Start S3, TorchServe, nginx and Airflow on this machine, until Ctrl-C or `moodlake down`."""
    with report_errors(), stopping_cleanly() as stopped:
        from infra.local.ports import ClusterPorts, Ports
        from infra.stack import Stack

        ports = ClusterPorts if workers else Ports
        chosen = ports.free() if free_ports else ports()
        stack = Stack(state, chosen, model, workers=workers, web_app=app)
        stack.check()
        names = ", ".join(service.name for service in stack.services)
        console.print(f"[dim]›[/] starting {names}: {'a minute' if workers else 'half a minute'}")
        stack.start(lambda line: console.print(f"[green]✓[/] {escape(line)}", soft_wrap=True))
        try:
            bucket = stack.settings.images_bucket
            console.print(
                f"Airflow user: admin, password: {stack.airflow.password}\n"
                f"In another terminal:\n"
                f"  moodlake put photos/    # uploads to s3://{bucket}\n"
                f"  moodlake run            # or wait for the hourly run\n"
                f"  moodlake table\n"
                f"Press Ctrl-C to stop.",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            stopped.wait()
        finally:
            stop_undisturbed(stack.stop)
            console.print("Stopped.")


def put(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC", exists=True, help="Folders, files or ZIPs.")
    ],
    bucket: Annotated[
        str | None, typer.Option(help="Target bucket. Default: the configured images bucket.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix for each key, such as 2026/.")] = "",
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Upload images to the bucket; exit with code 1 if any image is skipped."""
    with report_errors():
        from infra.stack import attach
        from moodlake.scoring.sources.s3 import s3_client
        from moodlake.scoring.sources.upload import gather, send

        stack = attach(state)
        stack.point_here()
        name = bucket or stack.settings.images_bucket
        uploads, sent = gather(sources, prefix), 0
        try:
            for upload, problem in send(s3_client(), name, uploads):
                if problem:
                    text = escape(f"{upload}: {problem}")
                    errors.print(f"[red]skipped:[/] {text}", soft_wrap=True)
                else:
                    sent += 1
        finally:
            if sent:
                place = escape(f"s3://{name}/{prefix}")
                console.print(f"{sent} files -> [bold]{place}", soft_wrap=True)
    if sent < len(uploads):
        raise typer.Exit(1)


@with_options_of(RunParams)
def run(state: StateDir = DEFAULT_STATE, **params: Any) -> None:
    """Score the new images in the bucket through Airflow, and wait for the run to end."""
    with report_errors():
        from infra.local.airflow import DAG_ID
        from infra.stack import attach

        stack = attach(state)
        run_id = stack.airflow.client.trigger(DAG_ID, params)
        console.print(f"Airflow run {run_id}", soft_wrap=True)
        stack.airflow.follow(run_id, lambda line: console.print(escape(line)))
        stack.point_here()
        bucket = params["bucket"] or stack.settings.images_bucket
        message = _outcome(run_id, stack.settings, f"s3://{bucket}/{params['prefix'] or ''}")
    console.print(escape(message), soft_wrap=True)


def _outcome(run_id: str, settings: Settings, place: str) -> str:
    """Describe the outcome of a successful run over `place`, a bucket and prefix."""
    from moodlake.scoring.tables.results import ResultsTable
    from moodlake.scoring.tables.runs import latest_run

    record = latest_run(settings.runs_table, run_id)
    if record is None or not record["listed"]:
        return f"no objects in {place} match"
    if not record["objects"]:
        return (
            f"nothing new in {place}: all {record['listed']} objects have rows by this model. To "
            "score them with other options, use another table"
        )
    counts = {Status.SCORED: record["scored"], **json.loads(record["reasons"])}
    # A retried object that is still missing keeps its row.
    rows = ResultsTable(settings.results_table).of_run(run_id, record["started_at"])
    written = any(batch.num_rows for batch in rows)
    shown = f"`moodlake table --run {run_id}` prints the rows" if written else "no new rows"
    return f"{outcomes(counts)}; {shown}, `moodlake report {run_id} --out run.html` a report"


def env(state: StateDir = DEFAULT_STATE) -> None:
    """Print variables for programs that use the local servers: eval "$(moodlake env)"."""
    with report_errors():
        from infra.stack import attach

        for name, value in attach(state).environment().items():
            typer.echo(f"export {name}={shlex.quote(value)}")


def status(state: StateDir = DEFAULT_STATE) -> None:
    """Check each local service with a real request; exit with code 1 if one fails."""
    with report_errors():
        from infra.stack import attach

        services = attach(state).status()
    for item in services:
        mark = "[green]✓[/]" if item.ready else "[red]✗[/]"
        seen = f"{item.name} at {item.url}: {item.detail}"
        console.print(f"{mark} {escape(seen)} [dim](logs: {escape(item.log)})[/]", soft_wrap=True)
    if not all(item.ready for item in services):
        raise typer.Exit(1)


def down(state: StateDir = DEFAULT_STATE) -> None:
    """Stop the servers that `moodlake up` started."""
    with report_errors():
        from infra.stack import take_down

        take_down(state)
    console.print("Stopped.")


def demo(
    model: ArchivePath = RELEASED_ARCHIVE,
    keep: Annotated[bool, typer.Option(help="Keep the servers running until Ctrl-C.")] = False,
) -> None:
    """Start all servers, upload sample photos, and score them through Airflow."""

    def announce(line: str) -> None:
        console.print(f"[dim]›[/] {escape(line)}", soft_wrap=True)

    with report_errors(), stopping_cleanly() as stopped:
        from infra.demo import run_demo
        from infra.local.ports import Ports
        from infra.stack import Stack, ensure_stopped
        from moodlake.inference.bundle import read_meta

        read_meta(model)
        ensure_stopped(DEMO_STATE)
        shutil.rmtree(DEMO_STATE, ignore_errors=True)
        stack = Stack(DEMO_STATE, Ports.free(), model)
        try:
            announce("starting S3, TorchServe, nginx and Airflow (about half a minute)")
            stack.start(announce)
            result = run_demo(stack, DEMO_STATE, announce)
            print_results(result.rows, limit=50)
            console.print(f"Table:   {result.table}", soft_wrap=True)
            console.print(f"Report:  {result.report}", soft_wrap=True)
            if keep:
                password = stack.airflow.password
                console.print(
                    f"Airflow: {stack.airflow.url} (admin, {password}). Press Ctrl-C to stop."
                )
                stopped.wait()
            else:
                console.print("Airflow: `moodlake demo --keep` keeps its web UI running")
        finally:
            stop_undisturbed(stack.stop)
