"""S3 that is overloaded, slow, cut off or wrong: a run may fail, and later runs complete it."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.proxy import Fault, FaultProxy
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services

pytestmark = pytest.mark.e2e

IMAGES = r"^/shared/\d"


@pytest.mark.parametrize(
    "faults",
    [
        (Fault.FAILED_PRECONDITION, Fault.OVERLOADED, Fault.SLOW),
        (Fault.CUT, Fault.UNANSWERED, Fault.HALF),
    ],
    ids=["refused or slow", "cut off"],
)
def test_a_failing_s3_changes_no_row(
    services: Services, undisturbed: pd.DataFrame, faults: tuple[Fault, ...]
) -> None:
    results = f"fault-{faults[0].name.lower()}"
    with FaultProxy(services.s3_port, 0.2, faults) as proxy:
        scheduler = Scheduler(services.environment(results, proxy.url))
        scheduler.until_done(results, SHARED)
    assert proxy.injected.keys() == {*faults}
    assert not scheduler.unexpected_errors
    assert_same(rows_of(services.settings(results)), undisturbed)


def test_a_truncated_object_is_never_scored(services: Services, undisturbed: pd.DataFrame) -> None:
    """Its length differs from the listing, even though it matches its Content-Length."""
    with FaultProxy(services.s3_port, 0.1, (Fault.SHORT,), 5, IMAGES) as proxy:
        scheduler = Scheduler(services.environment("short", proxy.url))
        scheduler.until_done("short", SHARED)
    assert proxy.injected[Fault.SHORT]
    assert_same(rows_of(services.settings("short")), undisturbed)


def test_interrupted_downloads_do_not_fail_a_run(
    services: Services, undisturbed: pd.DataFrame
) -> None:
    """At this rate, no task of 256 images would succeed without retrying downloads."""
    with FaultProxy(services.s3_port, 0.2, (Fault.HALF, Fault.SHORT), 5, IMAGES) as proxy:
        scheduler = Scheduler(services.environment("broken-off", proxy.url))
        assert scheduler.run("broken-off", SHARED)
    assert proxy.injected.total() > 1
    assert scheduler.ends == {"plan_run: done": 1, "score_shard: done": 2, "publish: done": 1}
    assert_same(rows_of(services.settings("broken-off")), undisturbed)
