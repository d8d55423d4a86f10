"""Checks of this machine."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from infra.doctor.finding import Finding, State
from infra.local.cores import usable_cores
from moodlake.settings import PROJECT_ROOT, Settings

_CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
_NEEDED = ("boto3", "deltalake", "duckdb", "httpx", "numpy", "openvino", "pyarrow")
"""Packages that data passes through, for which another version may behave differently."""
_FREE_GB = 5
_OPEN_FILES = 1024
_GIGABYTE = 1e9


def versions(settings: Settings) -> Finding:
    """Check that Python and the packages that data passes through are the tested versions."""
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        detail = f"Python {sys.version.split()[0]} is not supported"
        return Finding(State.BAD, detail, "install into Python 3.11 or 3.12")
    if not _CONSTRAINTS.exists():
        return Finding(State.ABSENT, "not compared: there is no constraints.txt here")
    lines = _CONSTRAINTS.read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    other = [
        f"{name} is {found or 'missing'}, tested with {pinned[name]}"
        for name in _NEEDED
        if (found := _version(name)) != pinned[name]
    ]
    if other:
        remedy = "pip install -c constraints.txt -e ."
        return Finding(State.DOUBTFUL, "; ".join(other), remedy)
    return Finding(State.GOOD, f"Python {sys.version.split()[0]}, packages as in constraints.txt")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def core_count(settings: Settings) -> Finding:
    """Check how many cores this process may use."""
    count = usable_cores()
    if count < 2:
        remedy = "provide at least two cores: each worker of the model server uses one"
        return Finding(State.DOUBTFUL, "1 core", remedy)
    return Finding(State.GOOD, f"{count} cores")


def disk(settings: Settings) -> Finding:
    """Check the free space for the temporary files of planning, and for local results."""
    local = "://" not in settings.results_uri
    place = Path(settings.results_uri if local else tempfile.gettempdir()).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / _GIGABYTE
    detail = f"{free:.0f} GB free at {place}"
    if free < _FREE_GB:
        return Finding(State.DOUBTFUL, detail, f"free at least {_FREE_GB} GB")
    return Finding(State.GOOD, detail)


def open_files(settings: Settings) -> Finding:
    """Check how many files and connections a process may have open."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < _OPEN_FILES:
        return Finding(
            State.DOUBTFUL, f"at most {most}", f"raise the limit: ulimit -n {_OPEN_FILES}"
        )
    return Finding(State.GOOD, f"at most {most}")
