"""Commands for an installation on AWS: `moodlake cloud ...`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from moodlake.cli.console import console, explained
from moodlake.cli.size import size

if TYPE_CHECKING:
    from infra.aws.cloud import Cloud
    from infra.aws.stack import Change

app = typer.Typer(no_args_is_help=True, help="The same on AWS: plan, deploy, take down.")
app.command()(size)
Name = Annotated[str, typer.Option(help="What the names of everything begin with.")]
Region = Annotated[
    str | None, typer.Option(help="Where; that of AWS_REGION or the profile if not given.")
]
ImagesBucket = Annotated[
    str | None, typer.Option(help="Name of the bucket with the images, where the usual is taken.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_REPLACED = {True: "is replaced", None: "may be replaced", False: ""}
_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}


@app.command()
def plan(
    name: Name = "moodlake", region: Region = None, images_bucket: ImagesBucket = None
) -> None:
    """Show what `deploy` would change, and change nothing."""
    from infra.aws.cloud import STACKS, Cloud

    with explained():
        cloud = Cloud(name, region)
        for part in STACKS:
            _show(part, cloud.plan(part, _parameters(images_bucket)))
            cloud.stacks[part].forget_plan()


@app.command()
def deploy(
    name: Name = "moodlake",
    region: Region = None,
    images_bucket: ImagesBucket = None,
    yes: Yes = False,
) -> None:
    """Show what changes, ask, and change it; again, after a change of the code or of a size."""
    from infra.aws.cloud import STACKS, Cloud

    with explained():
        cloud = Cloud(name, region)
        _show_place(cloud)
        for part in STACKS:
            changes = cloud.plan(part, _parameters(images_bucket))
            _show(part, changes)
            if not changes:
                continue
            if not yes and not _agreed():
                cloud.stacks[part].forget_plan()
                raise typer.Exit(1)
            for line in cloud.stacks[part].apply():
                console.print(f"[dim]{escape(line)}")
    there = f"moodlake cloud env --name {name} --region {cloud.region}"
    console.print(f'eval "$({there})" leads the other commands there', soft_wrap=True)


@app.command()
def destroy(name: Name = "moodlake", region: Region = None, yes: Yes = False) -> None:
    """Take all of it down but for the buckets with images, results and data."""
    from infra.aws.cloud import Cloud

    with explained():
        cloud = Cloud(name, region)
        kept = cloud.kept()
        _show_place(cloud)
        if not yes:
            typer.confirm(f"Take {name} down?", abort=True)
        for line in cloud.destroy():
            console.print(f"[dim]{escape(line)}")
    if kept:
        console.print("These stay, with all that is in them; to delete them for good:")
        for bucket in kept:
            console.print(f"  aws s3 rb --force s3://{bucket}", soft_wrap=True)


@app.command()
def env(name: Name = "moodlake", region: Region = None) -> None:
    """Print what leads the other commands there: eval "$(moodlake cloud env)"."""
    from infra.aws.cloud import Cloud

    with explained():
        cloud = Cloud(name, region)
        region_names = (
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
        )  # some programs read one, some the other
        environment = cloud.settings().to_environment() | dict.fromkeys(region_names, cloud.region)
    del environment["MOODLAKE_SERVER_URL"]  # it runs elsewhere
    for key, value in environment.items():
        typer.echo(f"export {key}={shlex.quote(value)}")


@app.command()
def replay(name: Name = "moodlake", region: Region = None) -> None:
    """Send the notifications that were put aside back to the queue, once they can be used."""
    from infra.aws.cloud import Cloud

    with explained():
        moved = Cloud(name, region).replay()
    console.print(f"{moved} notifications are in the queue again")


def _show_place(cloud: Cloud) -> None:
    who = cloud.identity()
    console.print(f"{cloud.region}, account {who['Account']}, as {who['Arn']}", soft_wrap=True)


def _agreed() -> bool:
    """Ctrl-C means no."""
    try:
        return typer.confirm("Go on?")
    except typer.Abort:
        return False


def _parameters(images_bucket: str | None) -> dict[str, str]:
    return {"ImagesBucket": images_bucket} if images_bucket else {}


def _show(part: str, changes: list[Change]) -> None:
    if not changes:
        console.print(f"{part}: nothing changes")
        return
    shown = Table("", part, "kind", "")
    for change in changes:
        style = _COLOURS.get(change.action)
        told = _REPLACED[change.replaced]
        shown.add_row(change.action, change.name, change.kind, told, style=style)
    console.print(shown)
