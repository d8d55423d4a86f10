"""S3 that is overloaded, slow, cut off or lying: a run may fail, and the next ones mend all."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.chaos.compare import assert_same, rows_of
from tests.chaos.conftest import SHARED
from tests.chaos.parts import Parts
from tests.chaos.proxy import Fault, FaultProxy
from tests.chaos.scheduler import Scheduler

pytestmark = pytest.mark.e2e

IMAGES = r"^/shared/\d"


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SHORT])
def test_a_failing_s3_changes_no_row(parts: Parts, undisturbed: pd.DataFrame, fault: Fault) -> None:
    results = f"fault-{fault.name.lower()}"
    with FaultProxy(parts.s3_port, 0.1, (fault,)) as proxy:
        scheduler = Scheduler(parts.environment(results, proxy.url))
        scheduler.until_done(results, SHARED)
    assert proxy.happened[fault]
    assert not scheduler.unclear
    assert_same(rows_of(parts.settings(results)), undisturbed)


def test_half_an_object_is_never_scored_as_the_whole(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    """Its length is not what the listing told, whatever the answer says of itself."""
    with FaultProxy(parts.s3_port, 0.1, (Fault.SHORT,), 5, IMAGES) as proxy:
        scheduler = Scheduler(parts.environment("short", proxy.url))
        scheduler.until_done("short", SHARED)
    assert proxy.happened[Fault.SHORT]
    assert_same(rows_of(parts.settings("short")), undisturbed)


def test_downloads_that_break_off_do_not_fail_a_run(
    parts: Parts, undisturbed: pd.DataFrame
) -> None:
    """At a rate at which no task of 256 images would ever come through without another try."""
    with FaultProxy(parts.s3_port, 0.2, (Fault.HALF, Fault.SHORT), 5, IMAGES) as proxy:
        scheduler = Scheduler(parts.environment("broken-off", proxy.url))
        assert scheduler.run("broken-off", SHARED)
    assert proxy.happened.total() > 1
    assert scheduler.ends == {"plan_run: done": 1, "score_shard: done": 2, "publish: done": 1}
    assert_same(rows_of(parts.settings("broken-off")), undisturbed)
