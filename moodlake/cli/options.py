"""Command-line options made from the options of `moodlake.scoring.options`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.models import OptionInfo

from moodlake.scoring.options import Dataclass, Option, options_of

Command = TypeVar("Command", bound=Callable[..., None])


def option_of(kind: type[Dataclass], name: str) -> OptionInfo:
    """Return the command-line option of one field of a dataclass."""
    return _info(next(each for each in options_of(kind) if each.name == name))


def with_options_of(kind: type[Dataclass]) -> Callable[[Command], Command]:
    """Give a command an option for each field of a dataclass, before its own parameters.

    The command takes their values as keyword arguments; an unset option is None.
    """
    shared = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=Annotated[_type(each) | None, _info(each)],
        )
        for each in options_of(kind)
    ]

    def add(command: Command) -> Command:
        own = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters = [*shared, *own]
        # Typer reads both.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return add


def _type(option: Option) -> Any:
    return Literal[*option.choices] if option.choices else option.kind


def _info(option: Option) -> OptionInfo:
    info: OptionInfo = typer.Option(help=option.help, min=option.minimum, max=option.maximum)
    return info
