"""The pinned versions install on every Python that the project supports."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution

from packaging.specifiers import SpecifierSet

from moodlake.settings import PROJECT_ROOT


def test_pins_allow_the_oldest_supported_python() -> None:
    """Otherwise pip searches without end instead of reporting an error."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=").split(",")[0]
    wrong = {}
    for line in (PROJECT_ROOT / "constraints.txt").read_text("utf-8").splitlines():
        name = line.split("==")[0]
        try:
            wanted = distribution(name).metadata.get("Requires-Python")
        except PackageNotFoundError:
            continue
        if wanted and f"{oldest}.0" not in SpecifierSet(wanted):
            wrong[name] = wanted
    assert wrong == {}
