"""Options that Airflow's trigger forms and the command line share.

An option is a field of a frozen dataclass, declared with `option`. DAG files import this module,
so it imports nothing outside the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

_JSON_TYPES = {str: "string", int: "integer", float: "number"}


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True)
class Option:
    """One option, as forms and command lines present it.

    Attributes:
        name: name of the field.
        kind: `str`, `int` or `float`.
        nullable: whether the option may be unset.
        default: value if the option is not given; None for unset.
        title: label in a form, such as "Images per task".
        help: one or two sentences.
        minimum, maximum: inclusive bounds; None for unbounded.
        choices: permitted values; empty for any.
    """

    name: str
    kind: type
    nullable: bool
    default: Any
    title: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def json_schema(self) -> dict[str, Any]:
        """Return the option as JSON Schema keywords, without its default."""
        kind = _JSON_TYPES[self.kind]
        schema = {
            "type": ["null", kind] if self.nullable else kind,
            "enum": [None, *self.choices] if self.choices else None,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "title": self.title,
            "description": self.help,
        }
        return {keyword: value for keyword, value in schema.items() if value is not None}


def option(title: str, help: str, *, default: Any = MISSING, **bounds: Any) -> Any:
    """Declare a field of a dataclass as an option.

    Args:
        title, help: see `Option`.
        default: value of the field if it is not given. Without one, the dataclass requires the
            field, and the code that constructs it fills in what a form leaves unset.
        bounds: `minimum`, `maximum` and `choices` of `Option`.
    """
    return field(default=default, metadata={"title": title, "help": help, **bounds})


def options_of(kind: type[Dataclass]) -> list[Option]:
    """Return the options of a dataclass, in the order of its fields."""
    hints = get_type_hints(kind)
    return [_option(each, hints[each.name]) for each in fields(kind)]


def _option(declared: Field[Any], hint: Any) -> Option:
    types = get_args(hint) or (hint,)
    # Airflow counts "" as missing: text that may be empty is null in a form.
    unset = declared.default in (MISSING, "")
    return Option(
        name=declared.name,
        kind=next(each for each in types if each is not NoneType),
        nullable=unset or NoneType in types,
        default=None if unset else declared.default,
        **declared.metadata,
    )


def check(options: Dataclass) -> None:
    """Check each field against the bounds and choices of its option.

    Raises:
        ValueError: a value is out of range or not among the choices; the message names the field.
    """
    for each in options_of(type(options)):
        value = getattr(options, each.name)
        if value is None:
            continue
        if each.choices and value not in each.choices:
            raise ValueError(f"{each.name} is {value!r}; it must be {' or '.join(each.choices)}")
        if each.minimum is not None and value < each.minimum:
            raise ValueError(f"{each.name} is {value}; it must be at least {each.minimum}")
        if each.maximum is not None and value > each.maximum:
            raise ValueError(f"{each.name} is {value}; it must be at most {each.maximum}")


def given(kind: type[Dataclass], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that set options of `kind`; None and "" leave an option unset."""
    names = {each.name for each in fields(kind)}
    return {k: v for k, v in values.items() if k in names and v not in (None, "")}
