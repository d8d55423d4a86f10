"""Settings: what their environment variables accept, and the round trip through them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moodlake.settings import DATA_OVERVIEW, Settings, SettingsError

VARIABLES = {
    "MOODLAKE_IMAGES_BUCKET",
    "MOODLAKE_RESULTS_URI",
    "MOODLAKE_SERVER_URL",
    "MOODLAKE_SERVER_KEYS",
    "MOODLAKE_ARRIVALS_QUEUE",
    "MOODLAKE_DEAD_LETTERS",
    "MOODLAKE_AIRFLOW_URL",
    "MOODLAKE_SHOW_IMAGES",
    "MOODLAKE_DATA_OVERVIEW",
    "MOODLAKE_SERVER_WAIT",
    "MOODLAKE_METRICS",
}
"""Public: deployments set them, so that a renamed field must not rename its variable."""

# What a variable may hold: no NUL, and no half of a surrogate pair.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
paths = text.filter(lambda name: not name.startswith("arn:")).map(Path)
arns = text.map(lambda name: f"arn:{name}")
settings = st.builds(
    Settings,
    images_bucket=text,
    results_uri=text,
    server_url=text,
    server_keys=st.none() | paths | arns,
    arrivals_queue=st.none() | text,
    dead_letters=st.none() | text,
    airflow_url=st.none() | text,
    show_images=st.booleans(),
    data_overview=text.map(Path),
    server_wait=st.floats(min_value=0, allow_infinity=False) | st.integers(0, 10_000),
    metrics=st.none() | text,
)


@given(settings)
def test_the_environment_keeps_settings_unchanged(original: Settings) -> None:
    environment = original.to_environment()
    assert Settings.from_environment(environment) == original
    assert set(environment) <= VARIABLES
    assert all(environment.values())


def test_every_variable_has_its_field() -> None:
    assert {Settings.variable(name) for name in Settings.model_fields} == VARIABLES


@given(st.dictionaries(st.sampled_from(sorted(VARIABLES - {"MOODLAKE_SERVER_WAIT"})), text))
def test_variables_of_text_accept_any_value(environment: dict[str, str]) -> None:
    Settings.from_environment(environment)


def test_empty_variables_count_as_unset() -> None:
    assert Settings.from_environment(dict.fromkeys(VARIABLES, "")) == Settings()


def test_values_are_read_by_the_type_of_their_field() -> None:
    found = Settings.from_environment(
        {
            "MOODLAKE_SERVER_KEYS": "keys/key_file.json",
            "MOODLAKE_SERVER_WAIT": "900",
            "MOODLAKE_SHOW_IMAGES": "true",
            "MOODLAKE_UNKNOWN": "ignored",
        }
    )
    assert found == Settings(
        server_keys=Path("keys/key_file.json"), server_wait=900, show_images=True
    )
    assert found.to_environment()["MOODLAKE_SERVER_WAIT"] == "900"


@pytest.mark.parametrize("value", ["True", "1", "yes", "false", "maybe"])
def test_images_are_shown_for_the_value_true_only(value: str) -> None:
    assert not Settings.from_environment({"MOODLAKE_SHOW_IMAGES": value}).show_images


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan", "10 s"])
def test_an_invalid_server_wait_is_named_in_the_error(value: str) -> None:
    with pytest.raises(SettingsError, match=f"MOODLAKE_SERVER_WAIT is '{value}'; .* such as 600"):
        Settings.from_environment({"MOODLAKE_SERVER_WAIT": value})


def test_the_constructor_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLAKE_METRICS", "other")
    monkeypatch.setenv("MOODLAKE_SERVER_WAIT", "soon")
    assert Settings().metrics is None
    assert Settings().data_overview == DATA_OVERVIEW


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().images_bucket = "other"  # type: ignore[misc]


def test_reading_settings_loads_nothing_heavy() -> None:
    """DAG files import them, and Airflow parses DAG files all the time."""
    heavy = "{'numpy', 'httpx', 'boto3', 'pandas', 'airflow'}"
    code = f"import sys, moodlake.settings; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
