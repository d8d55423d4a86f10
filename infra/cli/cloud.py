"""Commands for an installation on AWS: `moodlake cloud ...`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from infra.cli.size import size
from moodlake import __version__
from moodlake.cli.console import console, report_errors
from moodlake.settings import Settings

if TYPE_CHECKING:
    from infra.aws.artifacts import Uploaded
    from infra.aws.cloud import Cloud
    from infra.aws.stack import Change

app = typer.Typer(no_args_is_help=True, help="The same on AWS: plan, deploy, take down.")
app.command()(size)
Name = Annotated[str, typer.Option(help="What the names of everything begin with.")]
Region = Annotated[
    str | None, typer.Option(help="Where; that of AWS_REGION or the profile if not given.")
]
Part = Annotated[
    str | None,
    typer.Option("--only", help="One of its parts: base (without Airflow and servers), or run."),
]
ImagesBucket = Annotated[
    str | None, typer.Option(help="Name of the bucket with the images, where the usual is taken.")
]
Size = Annotated[Literal["small", "large"] | None, typer.Option(help="Of all that grows.")]
ServerTag = Annotated[str | None, typer.Option(help="Tag of the images that were pushed.")]
Email = Annotated[str | None, typer.Option(help="Who is told of alarms.")]
Budget = Annotated[int | None, typer.Option(min=0, help="US dollars a month to be warned of.")]
Certificate = Annotated[
    str | None, typer.Option(help="ARN of a certificate, to reach the server by HTTPS.")
]
ServerHost = Annotated[str | None, typer.Option(help="The host name in the certificate.")]
Spot = Annotated[
    bool | None, typer.Option("--spot/--no-spot", help="Servers on what AWS may take back.")
]
Gpu = Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="A GPU, for training.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another parameter of the templates, such as FlowLogs=yes; can be repeated.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_PARAMETERS = {
    "images_bucket": "ImagesBucket",
    "size": "Size",
    "server_tag": "ServerTag",
    "email": "Email",
    "budget": "Budget",
    "certificate": "Certificate",
    "server_host": "ServerHost",
    "spot": "Spot",
    "gpu": "Gpu",
}
"""Of the templates, by option."""
_REPLACED = {True: "is replaced", None: "may be replaced", False: ""}
_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}


@app.command()
def plan(
    context: typer.Context,
    name: Name = "moodlake",
    region: Region = None,
    only: Part = None,
    images_bucket: ImagesBucket = None,
    size: Size = None,
    server_tag: ServerTag = None,
    email: Email = None,
    budget: Budget = None,
    certificate: Certificate = None,
    server_host: ServerHost = None,
    spot: Spot = None,
    gpu: Gpu = None,
    set_: Set = None,
) -> None:
    """Show what `deploy` would change, and change nothing."""
    from infra.aws.cloud import Cloud

    given = _given(context)
    with report_errors():
        cloud, parts = Cloud(name, region), _parts(only)
        cloud.check(parts)
        for part in parts:
            if part == "run" and cloud.stacks["base"].status():
                with cloud.airflow_files() as (compare, _):
                    files = compare()
                _show_files(files, "would be ")
                given = given | files.versions
            if cloud.lacking(part, given):
                console.print(f"{part}: can be planned once what it stands on is deployed")
                continue
            _show(part, cloud.plan(part, given))
            cloud.stacks[part].forget_plan()


@app.command()
def deploy(
    context: typer.Context,
    name: Name = "moodlake",
    region: Region = None,
    only: Part = None,
    images_bucket: ImagesBucket = None,
    size: Size = None,
    server_tag: ServerTag = None,
    email: Email = None,
    budget: Budget = None,
    certificate: Certificate = None,
    server_host: ServerHost = None,
    spot: Spot = None,
    gpu: Gpu = None,
    set_: Set = None,
    yes: Yes = False,
) -> None:
    """Show what changes, ask, and change it; again, after a change of the code or of a size.

    What is not given stays as it was.
    """
    from infra.aws.cloud import Cloud

    given = _given(context)
    with report_errors():
        cloud, parts = Cloud(name, region), _parts(only)
        cloud.check(parts)
        _show_place(cloud)
        for part in parts:
            if part == "run":
                if (tag := cloud.check_image(given)) != __version__ and "ServerTag" not in given:
                    told = f"the servers stay at {tag}; --server-tag {__version__} changes that"
                    console.print(f"[yellow]{told}", soft_wrap=True)
                _deploy_run(cloud, given, yes)
            else:
                _deploy(cloud, part, given, yes)
        outputs = cloud.outputs()
    for output in ("Registry", "TrainingRegistry"):
        if output in outputs:
            console.print(f"an image belongs to {outputs[output]}", soft_wrap=True)
    there = f"moodlake cloud env --name {name} --region {cloud.region}"
    console.print(f'eval "$({there})" leads `table`, `doctor` and `app` there', soft_wrap=True)


def _deploy(
    cloud: Cloud, part: str, given: dict[str, str], yes: bool, files: Uploaded | None = None
) -> None:
    """Show what changes, beside these files, ask, and change it."""
    changes = cloud.plan(part, given)
    _show(part, changes)
    if not changes and not (files and (files.changed or files.removed)):
        return
    if not yes and not _agreed():
        cloud.stacks[part].forget_plan()
        console.print("nothing was changed")
        raise typer.Exit(1)
    if changes:
        for line in cloud.stacks[part].apply():
            console.print(f"[dim]{escape(line)}")


def _deploy_run(cloud: Cloud, given: dict[str, str], yes: bool) -> None:
    with cloud.airflow_files() as (compare, upload):
        files = compare()
        _show_files(files, "to be ")
        # A new Airflow begins with its DAGs; one that is there gets them after what they import.
        # All else counts once Airflow is told its version.
        uploaded = upload(cloud.stacks["run"].status() is None)
        _deploy(cloud, "run", given | uploaded.versions, yes, files)
        upload(True)
    cloud.set_pool()


@app.command()
def destroy(
    name: Name = "moodlake", region: Region = None, only: Part = None, yes: Yes = False
) -> None:
    """Take all of it down but for the buckets with images, results and data."""
    from infra.aws.cloud import Cloud

    with report_errors():
        cloud, parts = Cloud(name, region), _parts(only)
        cloud.deployed()  # else there is nothing to ask about
        kept = cloud.kept() if "base" in parts else []
        _show_place(cloud)
        if not yes:
            typer.confirm(f"Take {name}'s {' and '.join(parts)} down?", abort=True)
        for line in cloud.destroy(parts):
            console.print(f"[dim]{escape(line)}")
    if kept:
        console.print("These stay, with all that is in them; to delete them for good:")
        for bucket in kept:
            console.print(f"  aws s3 rb --force s3://{bucket}", soft_wrap=True)


@app.command()
def env(name: Name = "moodlake", region: Region = None) -> None:
    """Print what leads `table`, `doctor` and `app` there: eval "$(moodlake cloud env)"."""
    from infra.aws.cloud import Cloud

    with report_errors():
        cloud = Cloud(name, region)
        # Some programs read one, some the other.
        region_names = ("AWS_REGION", "AWS_DEFAULT_REGION")
        environment = cloud.settings().to_environment() | dict.fromkeys(region_names, cloud.region)
        if "ServerUrl" not in cloud.outputs():
            del environment[Settings.variable("server_url")]  # it runs elsewhere
    for key, value in environment.items():
        typer.echo(f"export {key}={shlex.quote(value)}")


@app.command()
def replay(name: Name = "moodlake", region: Region = None) -> None:
    """Send the notifications that were put aside back to the queue, once they can be used."""
    from infra.aws.cloud import Cloud

    with report_errors():
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


def _parts(only: str | None) -> tuple[str, ...]:
    from infra.aws.template import STACKS

    if only is None:
        return STACKS
    if only not in STACKS:
        raise typer.BadParameter(f"it is one of {', '.join(STACKS)}", param_hint="--only")
    return (only,)


def _given(context: typer.Context) -> dict[str, str]:
    """The parameters of the templates that were asked for."""
    from infra.aws.template import template

    told = {True: "yes", False: "no"}
    given = {
        parameter: told[value] if isinstance(value, bool) else str(value)
        for option, parameter in _PARAMETERS.items()
        if (value := context.params[option]) is not None
    }
    given |= dict(_assigned(each) for each in context.params["set_"] or ())
    parts = _parts(context.params["only"])
    taken = set.union(*(set(template(part)["Parameters"]) for part in parts))
    if others := given.keys() - taken:
        names = ", ".join(sorted(others))
        raise typer.BadParameter(f"{names} is not of {parts[0]}; give it without --only")
    return given


def _assigned(text: str) -> tuple[str, str]:
    from infra.aws.template import STACKS, optional, template

    name, equals, value = text.partition("=")
    known = set.union(*(optional(template(each)) for each in STACKS)) - {"Name"}
    known |= set(_PARAMETERS.values())
    if not equals or name not in known:
        told = f"{text!r} is not NAME=VALUE with one of {', '.join(sorted(known))}"
        raise typer.BadParameter(told, param_hint="--set")
    return name, value


def _show_files(files: Uploaded, would: str = "") -> None:
    for done, keys in (("uploaded", files.changed), ("removed", files.removed)):
        for key in keys:
            console.print(f"[dim]{would}{done}: {escape(key)}", soft_wrap=True)


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
