"""The number of processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may keep busy, at least 1.

    A container sees all cores of the machine, but its cgroup may limit their time.

    Args:
        cgroup: root of the cgroup file system, version 2 or 1.
    """
    visible = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip()
                for name in ("quota", "period")
            )
        except FileNotFoundError:
            return visible
    if quota in ("max", "-1"):
        return visible
    return max(1, min(visible, int(quota) // int(period)))
