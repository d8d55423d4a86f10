"""Parameters of a run, in trigger forms and on the command line."""

from __future__ import annotations

import pytest
import typer

from moodlake.cli import app
from moodlake.prediction import FaceMode
from moodlake.scoring.options import options_of
from moodlake.scoring.run.params import RunParams, UpkeepParams

OPTIONS = {option.name: option for option in options_of(RunParams)}
DEFAULTS = {name: option.default for name, option in OPTIONS.items()}


@pytest.mark.parametrize("kind", [RunParams, UpkeepParams])
def test_every_default_is_valid_in_a_trigger_form(kind: type) -> None:
    """Airflow disables the button of a form in which a value of a required type is empty."""
    for option in options_of(kind):
        required = "null" not in option.json_schema()["type"]
        assert option.default not in (None, "") if required else option.default != "", option


@pytest.mark.parametrize("unset", [None, ""])
def test_null_and_empty_text_leave_a_parameter_unset(unset: str | None) -> None:
    values = dict.fromkeys(("prefix", "pattern", "inventory", "faces", "max_broken"), unset)
    assert RunParams.of({**DEFAULTS, **values, "bucket": "b", "against": ""}) == RunParams("b")


def test_the_command_line_has_the_options_of_the_form() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    given = {option.name: option for option in command.params}
    for name, option in OPTIONS.items():
        assert given[name].opts == ["--" + name.replace("_", "-")]
        assert (given[name].help, given[name].default) == (option.help, option.default)


def test_the_choices_of_faces_are_the_face_modes() -> None:
    assert OPTIONS["faces"].choices == tuple(map(str, FaceMode))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 257}, "batch_size is 257; it must be at most 256"),
        ({"shard_size": 10_001}, "shard_size is 10001; it must be at most 10000"),
        ({"faces": "some"}, "faces is 'some'; it must be none or largest or all"),
        ({"max_broken": 1.5}, "max_broken is 1.5; it must be at most 1"),
        ({"max_broken": 0}, "max_broken is 0; it must be greater than 0"),
    ],
)
def test_a_value_out_of_range_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunParams.of({"bucket": "b", **values})
