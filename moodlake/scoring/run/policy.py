"""What an installation asks of its runs: section `scoring` of params.yaml, checked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from moodlake.scoring.sources.objects import SetupError
from moodlake.settings import PROJECT_ROOT

POLICY_FILE = PROJECT_ROOT / "moodlake" / "params.yaml"
"""A link to the one beside the package; a wheel holds a copy."""
SECTION = "scoring"


class PolicyError(SetupError, ValueError):
    """A value that is unknown or out of range; the message names it."""


def _check(name: str, value: Any, lowest: float, highest: float = float("inf")) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and lowest <= value <= highest):
        raise PolicyError(f"{SECTION}.{name} is {value!r}; it must lie in [{lowest}, {highest}]")


def _check_count(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise PolicyError(
            f"{SECTION}.{name} is {value!r}; it must be a whole number from {lowest} on"
        )


@dataclass(frozen=True)
class Gate:
    """When a shard is held back for the share of its inputs that are broken.

    Attributes:
        max_broken: at most this share (0 to 1) of a shard's rows is rejected for a reason that
            `Reason.is_broken` counts.
        min_rows: shards of fewer rows pass whatever their share.
    """

    max_broken: float = 0.9
    min_rows: int = 20

    def __post_init__(self) -> None:
        _check("gate.max_broken", self.max_broken, 0, 1)
        _check_count("gate.min_rows", self.min_rows, 1)


@dataclass(frozen=True)
class Prices:
    """What work costs, in one currency, for the estimate in a run's record.

    Attributes:
        core_hour: one core for an hour.
        get_thousand: 1,000 GET requests of S3.
        list_thousand: 1,000 LIST or PUT requests of S3; a LIST tells of 1,000 objects.
    """

    core_hour: float = 0.0446
    get_thousand: float = 0.0004
    list_thousand: float = 0.005

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(f"prices.{item.name}", getattr(self, item.name), 0)

    def per_million(self, core_seconds: float, objects: int) -> float | None:
        """The cost of a million objects like these, or None where there are none.

        Counted are the cores' seconds at work, a GET of each object, and a LIST of every 1,000.
        Machines that stand idle and what S3 takes for storage and traffic come on top.
        """
        if not objects:
            return None
        cores = 1e6 * core_seconds / objects / 3600 * self.core_hour
        return cores + 1e3 * self.get_thousand + self.list_thousand


@dataclass(frozen=True)
class Drift:
    """When a run is said to differ from others; see moodlake/scoring/reports/drift.py.

    Attributes:
        psi: population stability index above which a measure breaches.
        js_distance: the same of the Jensen-Shannon distance, 0 to 1.
        min_images: with fewer, of the run or of what it is compared with, there is no verdict.
        days: before a run, of which the runs are those that it is compared with.
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
    """What a run's page shows.

    Attributes:
        examples: how many of the most certain and of the most ambiguous images.
        thumbnails: with small copies of them, for all to see who may read the results.
    """

    examples: int = 6
    thumbnails: bool = False

    def __post_init__(self) -> None:
        _check_count("report.examples", self.examples, 0)
        if not isinstance(self.thumbnails, bool):
            raise PolicyError(
                f"{SECTION}.report.thumbnails is {self.thumbnails!r}; it must be true or false"
            )


@dataclass(frozen=True)
class Policy:
    """All of the section; what a file leaves out has its default."""

    gate: Gate = field(default_factory=Gate)
    prices: Prices = field(default_factory=Prices)
    drift: Drift = field(default_factory=Drift)
    report: Report = field(default_factory=Report)

    @classmethod
    def load(cls, path: Path = POLICY_FILE) -> Self:
        """Read `path`; without such a file, the defaults.

        Raises:
            PolicyError: a name is unknown or a value out of range.
        """
        try:
            content = yaml.safe_load(path.read_text("utf-8")) or {}
        except FileNotFoundError:
            return cls()
        except (OSError, yaml.YAMLError) as error:
            raise PolicyError(f"{path} cannot be read: {error}") from error
        section = content.get(SECTION) or {}
        parts = {item.name: item.default_factory for item in fields(cls)}
        _known(SECTION, section, parts)
        return cls(**{name: _part(parts[name], name, section[name] or {}) for name in section})


def _part(kind: Any, name: str, values: dict[str, Any]) -> Any:
    _known(f"{SECTION}.{name}", values, [item.name for item in fields(kind)])
    return kind(**values)


def _known(where: str, given: Any, known: Any) -> None:
    if not isinstance(given, dict):
        raise PolicyError(f"{where} is {given!r}; it must be a section of names and values")
    if unknown := set(given) - set(known):
        raise PolicyError(f"{where}.{min(unknown)} is unknown; there are {', '.join(known)}")
