"""Commands for an installation on AWS: `moodlake cloud`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from infra.cli.cloud_size import size
from moodlake import __version__
from moodlake.cli.console import console, report_errors
from moodlake.settings import Settings

if TYPE_CHECKING:
    from infra.aws.artifacts import Uploaded
    from infra.aws.installation import Installation
    from infra.aws.stack import Change

app = typer.Typer(no_args_is_help=True, help="Plan, deploy and destroy an installation on AWS.")
app.command()(size)
Name = Annotated[
    str, typer.Option(help="Name of the installation; a prefix of its resources' names.")
]
Region = Annotated[
    str | None, typer.Option(help="AWS region. Default: AWS_REGION, or the profile's region.")
]
Part = Annotated[
    str | None,
    typer.Option(
        "--only", help="One stack only: base (storage and queues) or run (Airflow and servers)."
    ),
]
ImagesBucket = Annotated[
    str | None, typer.Option(help="Name of the bucket for images, if the default name is taken.")
]
Size = Annotated[
    Literal["small", "large"] | None, typer.Option(help="Capacity preset: small or large.")
]
ServerTag = Annotated[
    str | None, typer.Option(help="Tag of the pushed images. Default: this version.")
]
Email = Annotated[str | None, typer.Option(help="Email address for alarms.")]
Budget = Annotated[
    int | None, typer.Option(min=0, help="Monthly cost in US dollars that triggers a warning.")
]
Certificate = Annotated[
    str | None, typer.Option(help="ARN of an ACM certificate; serves the model over HTTPS.")
]
ServerHost = Annotated[str | None, typer.Option(help="Host name in the certificate.")]
Spot = Annotated[
    bool | None,
    typer.Option("--spot/--no-spot", help="Run all servers except the first on Fargate Spot."),
]
Gpu = Annotated[
    bool | None,
    typer.Option("--gpu/--no-gpu", help="Provide a GPU instance for training tasks."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Set any other template parameter, such as FlowLogs=yes; repeatable.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")]
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
"""Option -> parameter of the CloudFormation templates."""
_REPLACED = {True: "replaced", None: "may be replaced", False: ""}
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
    """Show what `deploy` would change, without changing anything."""
    from infra.aws.installation import Installation

    given = _given(context)
    with report_errors():
        cloud, parts = Installation(name, region), _parts(only)
        cloud.check(parts)
        for part in parts:
            if part == "run" and cloud.stacks["base"].status():
                with cloud.airflow_files() as (compare, _):
                    files = compare()
                _show_files(files, "would be ")
                given = given | files.versions
            if cloud.lacking(part, given):
                console.print(f"{part}: can be planned after base is deployed")
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
    """Show the changes, ask for confirmation and apply them.

    Run it again after changing code or options. Options you leave out keep their deployed values.
    """
    from infra.aws.installation import Installation

    given = _given(context)
    with report_errors():
        cloud, parts = Installation(name, region), _parts(only)
        cloud.check(parts)
        _show_account(cloud)
        for part in parts:
            if part == "run":
                if (tag := cloud.check_image(given)) != __version__ and "ServerTag" not in given:
                    hint = f"--server-tag {__version__} deploys this version"
                    console.print(f"[yellow]servers stay at version {tag}; {hint}", soft_wrap=True)
                _deploy_run(cloud, given, yes)
            else:
                _deploy(cloud, part, given, yes)
        outputs = cloud.outputs()
    for output, image in (("Registry", "server"), ("TrainingRegistry", "training")):
        if output in outputs:
            console.print(f"registry of the {image} image: {outputs[output]}", soft_wrap=True)
    command = f"moodlake cloud env --name {name} --region {cloud.region}"
    console.print(
        f'to point `table`, `doctor` and `app` at this installation: eval "$({command})"',
        soft_wrap=True,
    )


def _deploy(
    cloud: Installation, part: str, given: dict[str, str], yes: bool, files: Uploaded | None = None
) -> None:
    """Show a stack's changes, ask for confirmation unless `yes`, and apply them.

    Args:
        files: Airflow's files, whose changes are confirmed together with the stack's.
    """
    changes = cloud.plan(part, given)
    _show(part, changes)
    if not changes and not (files and (files.changed or files.removed)):
        return
    if not yes and not _confirmed():
        cloud.stacks[part].forget_plan()
        console.print("nothing was changed")
        raise typer.Exit(1)
    if changes:
        for line in cloud.stacks[part].apply():
            console.print(f"[dim]{escape(line)}")


def _deploy_run(cloud: Installation, given: dict[str, str], yes: bool) -> None:
    with cloud.airflow_files() as (compare, upload):
        files = compare()
        _show_files(files, "to be ")
        # A new Airflow needs its DAGs when it starts. A running one gets new DAGs last, after the
        # packages that they import. Other files take effect when the stack names their version.
        uploaded = upload(cloud.stacks["run"].status() is None)
        _deploy(cloud, "run", given | uploaded.versions, yes, files)
        upload(True)
    cloud.set_pool()


@app.command()
def destroy(
    name: Name = "moodlake", region: Region = None, only: Part = None, yes: Yes = False
) -> None:
    """Delete the installation, except for the buckets of images, results and DVC, and the logs."""
    from infra.aws.installation import Installation

    with report_errors():
        cloud, parts = Installation(name, region), _parts(only)
        cloud.deployed()  # fails before the question if nothing is deployed
        kept = cloud.kept() if "base" in parts else []
        _show_account(cloud)
        if not yes:
            typer.confirm(f"Delete {' and '.join(parts)} of {name}?", abort=True)
        for line in cloud.destroy(parts):
            console.print(f"[dim]{escape(line)}")
    if kept:
        console.print("These buckets are kept with their contents. To delete them permanently:")
        for bucket in kept:
            console.print(f"  aws s3 rb --force s3://{bucket}", soft_wrap=True)


@app.command()
def env(name: Name = "moodlake", region: Region = None) -> None:
    """Print variables for `table`, `doctor` and `app`: eval "$(moodlake cloud env)"."""
    from infra.aws.installation import Installation

    with report_errors():
        cloud = Installation(name, region)
        # AWS tools differ in which of the two they read.
        region_names = ("AWS_REGION", "AWS_DEFAULT_REGION")
        environment = cloud.settings().to_environment() | dict.fromkeys(region_names, cloud.region)
        if "ServerUrl" not in cloud.outputs():
            del environment[Settings.variable("server_url")]  # the stack run is not deployed
    for key, value in environment.items():
        typer.echo(f"export {key}={shlex.quote(value)}")


@app.command()
def replay(name: Name = "moodlake", region: Region = None) -> None:
    """Move notifications from the dead-letter queue back to the queue of arrivals."""
    from infra.aws.installation import Installation

    with report_errors():
        moved = Installation(name, region).replay()
    console.print(f"moved {moved} notifications back to the queue")


def _show_account(cloud: Installation) -> None:
    identity = cloud.identity()
    place = f"{cloud.region}, account {identity['Account']}, as {identity['Arn']}"
    console.print(place, soft_wrap=True)


def _confirmed() -> bool:
    """Ask for confirmation; Ctrl-C means no."""
    try:
        return typer.confirm("Apply these changes?")
    except typer.Abort:
        return False


def _parts(only: str | None) -> tuple[str, ...]:
    from infra.aws.template import STACKS

    if only is None:
        return STACKS
    if only not in STACKS:
        raise typer.BadParameter(f"not one of {', '.join(STACKS)}", param_hint="--only")
    return (only,)


def _given(context: typer.Context) -> dict[str, str]:
    """Return the template parameters given as options."""
    from infra.aws.template import template

    text = {True: "yes", False: "no"}
    given = {
        parameter: text[value] if isinstance(value, bool) else str(value)
        for option, parameter in _PARAMETERS.items()
        if (value := context.params[option]) is not None
    }
    given |= dict(_assigned(each) for each in context.params["set_"] or ())
    parts = _parts(context.params["only"])
    taken = set.union(*(set(template(part)["Parameters"]) for part in parts))
    if others := given.keys() - taken:
        names = ", ".join(sorted(others))
        raise typer.BadParameter(f"{parts[0]} has no parameter {names}; omit --only")
    return given


def _assigned(text: str) -> tuple[str, str]:
    from infra.aws.template import STACKS, optional, template

    name, equals, value = text.partition("=")
    known = set.union(*(optional(template(each)) for each in STACKS)) - {"Name"}
    known |= set(_PARAMETERS.values())
    if not equals:
        raise typer.BadParameter(f"expected NAME=VALUE, got {text}", param_hint="--set")
    if name not in known:
        message = f"unknown template parameter {name}; known: {', '.join(sorted(known))}"
        raise typer.BadParameter(message, param_hint="--set")
    return name, value


def _show_files(files: Uploaded, prefix: str) -> None:
    for done, keys in (("uploaded", files.changed), ("removed", files.removed)):
        for key in keys:
            console.print(f"[dim]{prefix}{done}: {escape(key)}", soft_wrap=True)


def _show(part: str, changes: list[Change]) -> None:
    if not changes:
        console.print(f"{part}: no changes")
        return
    shown = Table("action", part, "type", "replacement")
    for change in changes:
        style = _COLOURS.get(change.action)
        replaced = _REPLACED[change.replaced]
        shown.add_row(change.action, change.name, change.kind, replaced, style=style)
    console.print(shown)
