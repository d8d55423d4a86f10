"""The command `moodlake cloud size`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from moodlake.cli.console import console, report_errors
from moodlake.errors import UserError
from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE

if TYPE_CHECKING:
    from infra.sizing.cost import Size
    from infra.sizing.limits import ExceededLimit


def size(
    images: Annotated[int, typer.Argument(min=1, help="A day.")],
    shard_size: Annotated[
        int, typer.Option(min=1, max=MAX_SHARD_SIZE, help="Images per task.")
    ] = DEFAULT_SHARD_SIZE,
    runs: Annotated[int, typer.Option(min=1, max=1440, help="Scheduled runs a day.")] = 24,
    listed: Annotated[
        int | None,
        typer.Option(min=0, help="Keys that a run lists; a month's if not given."),
    ] = None,
    inventory: Annotated[
        bool, typer.Option("--inventory", help="Runs read an S3 Inventory; they list nothing.")
    ] = False,
    notified: Annotated[
        bool, typer.Option(help="S3 tells of each image, which is scored as it comes.")
    ] = True,
    large: Annotated[
        bool, typer.Option("--large", help="Airflow and servers of the large size.")
    ] = False,
    spot: Annotated[bool, typer.Option("--spot", help="Servers on Fargate Spot.")] = False,
    image_kb: Annotated[
        int, typer.Option(min=0, help="Size of an image, where they are kept in S3 for this.")
    ] = 0,
    sent_kb: Annotated[
        int, typer.Option(min=1, help="Size of an image as it is sent to the server.")
    ] = 40,
) -> None:
    """Show what so many images a day take and cost on AWS, and what they would bend."""
    with report_errors():
        from infra.sizing.cost import Load, load_prices
        from infra.sizing.cost import size as sized
        from infra.sizing.limits import exceeded_limits
        from infra.sizing.rates import Rates

        if inventory and listed is not None:
            raise UserError("--inventory lists nothing: give it, or --listed")
        rates, prices = Rates.measured(), load_prices()
        load = Load(
            images=images,
            shard_size=shard_size,
            runs=runs,
            listed=listed,
            inventory=inventory,
            notified=notified,
            large=large,
            spot=spot,
            image_bytes=image_kb * 1000,
            sent_bytes=sent_kb * 1000,
        )
        found = sized(load, rates, prices)
        bent = exceeded_limits(load, rates)
    _show(images, found)
    _show_notes(str(prices["dated"]), bent)


def _show(images: int, found: Size) -> None:
    from infra.sizing.cost import DAYS

    shown = Table("a day", "", title=f"{images:,} images a day", title_justify="left")
    shown.add_row("shards, in runs", f"{found.shards:,} in {found.runs:,}")
    shown.add_row("servers' cores, at work all day", f"{found.cores:,.2f}")
    shown.add_row("servers' core hours", f"{found.core_hours:,.1f}")
    shown.add_row("hours of scoring tasks", f"{found.task_hours:,.1f}")
    for kind, count in found.requests.items():
        shown.add_row(f"requests: {kind}", f"{count:,.0f}")
    shown.add_row("the table grows by", f"{found.row_gigabytes:,.3f} GB")
    console.print(shown)
    million = images * DAYS / 1e6
    paid = Table("dollars", "a month", "a million images")
    for what, dollars in (*found.dollars.items(), ("in all", found.month)):
        paid.add_row(what, f"{dollars:,.2f}", f"{dollars / million:,.2f}")
    console.print(paid)


def _show_notes(dated: str, bent: list[ExceededLimit]) -> None:
    console.print(
        f"By the prices of {dated} in infra/sizing/prices.toml, which were written down "
        "from memory: compare. Logs, traffic out and training come on top.",
        soft_wrap=True,
    )
    for bend in bent:
        console.print(
            f"[yellow]exceeds:[/] {bend.name}: {bend.demand:,.0f}, limit {bend.limit:,.0f}; "
            f"{bend.remedy}",
            soft_wrap=True,
        )
