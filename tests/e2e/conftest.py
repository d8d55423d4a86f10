from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.client import BaseClient

from infra.local.ports import Ports
from infra.stack import Stack
from moodlake.scoring.sources.s3 import s3_client
from tests.e2e.steps import started


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The real S3 server, TorchServe with the released model, and Airflow, on free ports."""
    with started(Stack(tmp_path_factory.mktemp("stack"), Ports.free())) as running:
        yield running


@pytest.fixture(scope="package")
def s3(stack: Stack) -> BaseClient:
    """A client of the stack's S3."""
    return s3_client()
