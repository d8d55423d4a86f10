"""Settings of all tests, and how pytest-xdist spreads them over its workers."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

import moodlake  # noqa: F401  # switches off OpenVINO's telemetry before a test imports it

# Several workers share the cores: more threads in each of them only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DVC_NO_ANALYTICS"] = "1"  # in the repositories that tests create, too

# How long an example takes depends on the machine more than on the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED_SERVERS = ("e2e", "chaos", "app", "serving")
"""Folders whose tests share servers, and so a worker. The tests of any other file share one."""
SLOWEST_FIRST = (
    *SHARED_SERVERS,
    "celery/test_workers.py",
    "aws/test_arrival.py",
)
"""Groups of tests that start first, so that none of them is left running alone at the end."""
SERVERS = {"aws", "browser", "own", "s3", "server", "services", "stack"}
"""Fixtures that start a server or a browser. Tests that use one are marked `e2e`."""


def group_of(nodeid: str) -> str:
    """Return the group of a test: tests of one group run in one worker, one after another."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    folder = file.partition("/")[0]
    return folder if folder in SHARED_SERVERS else file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {group: number for number, group in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: order.get(group_of(item.nodeid), len(order)))
    for item in items:
        if SERVERS & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.e2e)


class GroupScheduling(LoadScopeScheduling):
    """Gives each group of tests to the next free worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)
