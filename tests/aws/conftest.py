"""An emulator of AWS, and an installation deployed to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from infra.aws.installation import Installation
from infra.local.ports import Ports
from tests.aws.emulator import PROGRAM, Emulator


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of AWS; the environment of this process points at it."""
    if not PROGRAM.exists():
        pytest.skip("AWS's emulator is absent: `make test` installs it")
    with Emulator(tmp_path_factory.mktemp("aws"), Ports.free().s3) as running:
        running.wait()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("AWS_", "MOODLAKE_"))]:
                patch.delenv(name)
            for name, value in running.environment().items():
                patch.setenv(name, value)
            yield running


@pytest.fixture(scope="module")
def cloud(aws: Emulator) -> Installation:
    """An installation whose base is deployed."""
    made = Installation("moodlake", poll_seconds=0.2)
    made.plan("base", {})
    list(made.stacks["base"].apply())
    return made
