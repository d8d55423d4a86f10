"""The command `cloud size`."""

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
    images: Annotated[int, typer.Argument(min=1, help="Images per day.")],
    shard_size: Annotated[
        int, typer.Option(min=1, max=MAX_SHARD_SIZE, help="Images per task.")
    ] = DEFAULT_SHARD_SIZE,
    runs: Annotated[int, typer.Option(min=1, max=1440, help="Scheduled runs per day.")] = 24,
    listed: Annotated[
        int | None,
        typer.Option(min=0, help="Keys that each run lists. Default: the images of a month."),
    ] = None,
    inventory: Annotated[
        bool,
        typer.Option("--inventory", help="Plan runs from an S3 Inventory instead of a listing."),
    ] = False,
    notified: Annotated[bool, typer.Option(help="Also score each image on arrival.")] = True,
    large: Annotated[
        bool, typer.Option("--large", help="Capacity preset large instead of small.")
    ] = False,
    spot: Annotated[
        bool, typer.Option("--spot", help="Run all servers except the first on Fargate Spot.")
    ] = False,
    image_kb: Annotated[
        int, typer.Option(min=0, help="Size of a stored image in kB. 0 excludes image storage.")
    ] = 0,
    sent_kb: Annotated[
        int, typer.Option(min=1, help="Size of an image sent to the server, in kB.")
    ] = 40,
) -> None:
    """Estimate AWS resources and cost for a daily volume, and the limits it exceeds."""
    with report_errors():
        from infra.sizing.cost import Load, load_prices
        from infra.sizing.cost import size as estimate
        from infra.sizing.limits import exceeded_limits
        from infra.sizing.rates import Rates

        if inventory and listed is not None:
            raise UserError("--inventory excludes --listed: with an inventory, runs list no keys")
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
        estimated = estimate(load, rates, prices)
        exceeded = exceeded_limits(load, rates)
    _show(images, estimated)
    _show_notes(str(prices["dated"]), exceeded)


def _show(images: int, size: Size) -> None:
    from infra.sizing.cost import DAYS

    resources = Table("per day", "", title=f"{images:,} images per day", title_justify="left")
    resources.add_row("shards", f"{size.shards:,} in {size.runs:,} runs")
    resources.add_row("server cores, if always busy", f"{size.cores:,.2f}")
    resources.add_row("server core hours, busy or idle", f"{size.core_hours:,.1f}")
    resources.add_row("hours of scoring tasks", f"{size.task_hours:,.1f}")
    for kind, count in size.requests.items():
        resources.add_row(f"{kind} requests", f"{count:,.0f}")
    resources.add_row("growth of the table", f"{size.row_gigabytes:,.3f} GB")
    console.print(resources)
    million = images * DAYS / 1e6
    cost = Table("cost in US dollars", "per month", "per million images")
    for item, dollars in (*size.dollars.items(), ("total", size.month)):
        cost.add_row(item, f"{dollars:,.2f}", f"{dollars / million:,.2f}")
    console.print(cost)


def _show_notes(dated: str, exceeded: list[ExceededLimit]) -> None:
    console.print(
        f"Based on the prices of {dated} in infra/sizing/prices.toml, written down from memory: "
        "check them. Logs, outgoing traffic and training are not included.",
        soft_wrap=True,
    )
    for each in exceeded:
        console.print(
            f"[yellow]exceeds:[/] {each.name}: {each.demand:,.0f}, limit {each.limit:,.0f}; "
            f"{each.remedy}",
            soft_wrap=True,
        )
