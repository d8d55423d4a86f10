"""The policy of scoring runs: gate, prices, drift limits and report options.

Defaults are in moodlake/scoring/policy.yaml. The environment variable MOODLAKE_POLICY overrides
single values with a file, an s3:// URI, or YAML text such as "gate: {max_broken: 0.5}".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import yaml

from moodlake.scoring.sources.objects import SetupError
from moodlake.scoring.sources.storage import read_bytes
from moodlake.settings import PROJECT_ROOT

POLICY_FILE = Path(__file__).parents[1] / "policy.yaml"
POLICY_VARIABLE = "MOODLAKE_POLICY"


class PolicyError(SetupError, ValueError):
    """The policy is unreadable, or a value is unknown or out of range; the message names it."""


def _check(name: str, value: Any, lowest: float, highest: float = float("inf")) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and lowest <= value <= highest):
        limits = (
            f"from {lowest} to {highest}" if math.isfinite(highest) else f"of at least {lowest}"
        )
        raise PolicyError(f"{name} is {value!r}; it must be a number {limits}")


def _check_count(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise PolicyError(f"{name} is {value!r}; it must be a whole number of at least {lowest}")


@dataclass(frozen=True)
class Gate:
    """Limits above which a shard is quarantined.

    Attributes:
        max_broken: largest share (0 to 1) of a shard's rows that may be rejected for a reason
            that `Reason.is_broken` counts.
        min_rows: shards with fewer rows always pass.
    """

    max_broken: float = 0.9
    min_rows: int = 20

    def __post_init__(self) -> None:
        _check("gate.max_broken", self.max_broken, 0, 1)
        _check_count("gate.min_rows", self.min_rows, 1)


@dataclass(frozen=True)
class Prices:
    """Prices, in one currency, for the cost estimate in a run's record.

    Attributes:
        core_hour: one core for an hour.
        get_thousand: 1,000 GET requests of S3.
        list_thousand: 1,000 LIST or PUT requests of S3; a LIST returns 1,000 objects.
    """

    core_hour: float = 0.0446
    get_thousand: float = 0.0004
    list_thousand: float = 0.005

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(f"prices.{item.name}", getattr(self, item.name), 0)

    def per_million(self, core_seconds: float, objects: int) -> float | None:
        """Return the cost of a million objects like these, or None if there are none.

        The estimate counts busy core seconds, one GET an object and one LIST per 1,000 objects.
        It leaves out idle machines, storage and traffic.
        """
        if not objects:
            return None
        cores = 1e6 * core_seconds / objects / 3600 * self.core_hour
        return cores + 1e3 * self.get_thousand + self.list_thousand


@dataclass(frozen=True)
class Drift:
    """Limits above which a run has drifted; see moodlake/scoring/reports/drift.py.

    Attributes:
        psi: population stability index above which a measure breaches.
        js_distance: Jensen-Shannon distance above which a measure breaches, 0 to 1.
        min_images: with fewer images, in the run or its reference, there is no verdict.
        days: a run is compared with the runs of this many days before it.
    """

    psi: float = 0.25
    js_distance: float = 0.2
    min_images: int = 200
    days: float = 7

    def __post_init__(self) -> None:
        _check("drift.psi", self.psi, 0)
        _check("drift.js_distance", self.js_distance, 0, 1)
        _check_count("drift.min_images", self.min_images, 1)
        _check("drift.days", self.days, 0)


@dataclass(frozen=True)
class Report:
    """Content of a run's HTML report.

    Attributes:
        examples: number of most certain and of most ambiguous images.
        thumbnails: embed small copies of them, visible to all who may read the results.
    """

    examples: int = 6
    thumbnails: bool = False

    def __post_init__(self) -> None:
        _check_count("report.examples", self.examples, 0)
        if not isinstance(self.thumbnails, bool):
            raise PolicyError(f"report.thumbnails is {self.thumbnails!r}; it must be true or false")


@dataclass(frozen=True)
class Policy:
    """All sections of the policy."""

    gate: Gate = field(default_factory=Gate)
    prices: Prices = field(default_factory=Prices)
    drift: Drift = field(default_factory=Drift)
    report: Report = field(default_factory=Report)

    @classmethod
    def load(cls, override: str | None = None) -> Self:
        """Read POLICY_FILE and merge an override over it.

        Args:
            override: a path, an s3:// URI or YAML text; None reads MOODLAKE_POLICY.

        Raises:
            PolicyError: a file is unreadable, a key unknown or a value out of range.
            SourceError: S3 does not return the override.
        """
        _check_for_old_section()
        override = os.environ.get(POLICY_VARIABLE) if override is None else override
        policy = cls()._merged(_parse(POLICY_FILE.read_bytes(), str(POLICY_FILE)), str(POLICY_FILE))
        if not override:
            return policy
        source, content = _read(override)
        return policy._merged(content, source)

    def _merged(self, content: dict[str, Any], source: str) -> Self:
        try:
            _check_keys("", content, [item.name for item in fields(self)])
            sections = {}
            for name, values in content.items():
                section = getattr(self, name)
                _check_keys(f"{name}.", values or {}, [item.name for item in fields(section)])
                sections[name] = replace(section, **(values or {}))
        except PolicyError as error:
            raise PolicyError(f"{source}: {error}") from error
        return replace(self, **sections)


def _read(override: str) -> tuple[str, dict[str, Any]]:
    """Return the name of an override for messages, and its content."""
    content = _parse(override, POLICY_VARIABLE)
    if isinstance(content, dict):
        return POLICY_VARIABLE, content
    data = read_bytes(override)
    if data is None:
        raise PolicyError(
            f"{POLICY_VARIABLE}: there is no file {override}; name a file, an s3:// URI, or write "
            "YAML such as gate: {max_broken: 0.5}"
        )
    return override, _parse(data, override) or {}


def _parse(text: str | bytes, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PolicyError(f"{source} is not YAML: {error}") from error


def _check_keys(prefix: str, values: Any, known: Iterable[str]) -> None:
    if not isinstance(values, dict):
        section = prefix.rstrip(".") or "the policy"
        raise PolicyError(f"{section} is {values!r}; it must be a mapping of names to values")
    if unknown := {str(key) for key in values} - set(known):
        raise PolicyError(f"{prefix}{min(unknown)} is unknown; known are {', '.join(known)}")


def _check_for_old_section() -> None:
    """Refuse to ignore a policy in params.yaml, its place in version 3.2 and before."""
    params = PROJECT_ROOT / "params.yaml"
    if params.exists() and re.search(r"^scoring:", params.read_text("utf-8"), re.MULTILINE):
        raise PolicyError(
            f"{params}: section scoring has moved; put it into {POLICY_FILE}, or the file that "
            f"{POLICY_VARIABLE} names"
        )
