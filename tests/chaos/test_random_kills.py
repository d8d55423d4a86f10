"""A short soak: kills at random instants, of all parts, through an S3 that fails now and then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.parts import Parts
from tests.chaos.proxy import FaultProxy
from tests.chaos.soak import FAULT_SHARE, FAULTS, Soak, summary, verdict

pytestmark = pytest.mark.e2e


def test_whatever_is_killed_the_table_is_that_of_an_undisturbed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Parts(tmp_path) as parts:
        for name, value in parts.s3.environment().items():
            monkeypatch.setenv(name, value)
        with FaultProxy(parts.s3_port, FAULT_SHARE, FAULTS, seed=7) as proxy:
            soak = Soak(parts, proxy, target=10, seed=7)
            soak.go(print)
        problems = verdict(soak)
        print(summary(soak, 0, problems))
        assert not problems
