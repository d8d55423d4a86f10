"""Simulate the days of docs/scale.md: `python -m infra.sizing` prints its table."""

from __future__ import annotations

import argparse
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from infra.aws.template import template
from infra.sizing.cost import DAYS
from infra.sizing.rates import Rates
from infra.sizing.setup import Setup
from infra.sizing.simulation import Outcome, daily, simulate
from moodlake.scoring.defaults import MAX_SHARD_SIZE

_DAY = 86_400.0
_HOUR = 3_600.0


def installation(size: str, rates: Rates) -> Setup:
    """Return an installation as the templates of infra/aws create it, in one of their sizes."""
    found = template("run")["Mappings"]
    scaling, server = found["Scaling"][size], found["Server"][size]
    return Setup(
        rates,
        slots=int(scaling["Slots"]),
        workers=int(server["Cpu"]) // 1024,
        servers=scaling["Most"],
        images_per_server=scaling["Backlog"],
    )


def days(rates: Rates) -> dict[str, tuple[Setup, list[tuple[float, int]]]]:
    """Return the simulated days by name: an installation, and the arrivals."""
    small, large = installation("small", rates), installation("large", rates)
    tuned = replace(large, shard_size=MAX_SHARD_SIZE, every=_HOUR / 2, window=_HOUR)
    huge = replace(tuned, servers=120, slots=480)
    stormy = replace(tuned, server_dies=_HOUR, task_dies=6 * _HOUR)

    def month(setup: Setup, images: int) -> Setup:
        return replace(setup, in_bucket=int(images * DAYS))

    return {
        "10^5, small": (month(small, 10**5), daily(10**5)),
        "10^6, small": (month(small, 10**6), daily(10**6)),
        "10^6, small, a prefix an hour": (replace(small, window=_HOUR), daily(10**6)),
        "10^8, large": (month(large, 10**8), daily(10**8)),
        "10^8, large, a prefix an hour": (replace(large, window=_HOUR), daily(10**8)),
        "the same, and runs each half hour": (
            replace(large, window=_HOUR, every=_HOUR / 2),
            daily(10**8),
        ),
        "the same, and shards of 10,000": (tuned, daily(10**8)),
        "the same; servers die each hour, tasks each 6": (stormy, daily(10**8)),
        "10^9, large, all of these": (tuned, daily(10**9)),
        "the same, and 120 servers": (huge, daily(10**9)),
        "10^6 at once, small": (small, [(0.0, 10**6)]),
        "10^6 at once, small, runs each half hour": (
            replace(small, every=_HOUR / 2),
            [(0.0, 10**6)],
        ),
    }


def row(name: str, setup: Setup, outcome: Outcome) -> list[str]:
    """Return a row of the table."""
    return [
        name,
        f"{outcome.images:,}",
        *(f"{outcome.delay(share) / _HOUR:.1f}" if outcome.delays else "" for share in (0.5, 0.99)),
        f"{outcome.max_pending:,}",
        f"{outcome.max_servers}",
        f"{outcome.server_seconds / _HOUR:,.0f}",
        f"{len(outcome.runs)}",
        f"{outcome.tasks:,}",
    ]


def main() -> None:
    """Simulate two days each, with arrivals on the first."""
    shown = Table(
        *("images a day", "rows", "half within, h", "99 % within, h", "pending at most"),
        *("servers", "server hours", "runs", "tasks"),
    )
    for name, (setup, arrived) in days(Rates.measured()).items():
        shown.add_row(*row(name, setup, simulate(setup, arrived, 2 * _DAY)))
    Console(width=160).print(shown)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
