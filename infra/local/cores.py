"""How much of this machine's processor there is to use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """How many cores this process may keep busy, at least 1.

    A container sees all of the machine's, but is given so much of their time only.

    Args:
        cgroup: where the kernel tells the container's limit, by version 2 or 1 of cgroups.
    """
    seen = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip()
                for name in ("quota", "period")
            )
        except FileNotFoundError:
            return seen
    if quota in ("max", "-1"):
        return seen
    return max(1, min(seen, int(quota) // int(period)))
