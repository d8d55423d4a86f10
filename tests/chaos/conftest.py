from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from botocore.client import BaseClient

from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from tests.chaos.compare import rows_of
from tests.chaos.scheduler import Scheduler
from tests.chaos.services import Services, objects, put

SHARED = RunParams("shared", shard_size=10, batch_size=4)


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Start S3 and a model server, and point this process at them."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Services(tmp_path_factory.mktemp("services")) as running,
    ):
        for name, value in running.s3.environment().items():
            patch.setenv(name, value)
        # Without checksums, as with many clients, only its length shows that a body is incomplete.
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield running


@pytest.fixture(scope="package")
def s3(services: Services) -> BaseClient:
    """Return a client of the S3 under test."""
    return s3_client()


@pytest.fixture(scope="package")
def undisturbed(services: Services, s3: BaseClient) -> pd.DataFrame:
    """Return the rows of an undisturbed run over the bucket `shared`, which no test changes."""
    s3.create_bucket(Bucket=SHARED.bucket)
    put(s3, SHARED.bucket, objects(20))
    assert Scheduler(services.environment("undisturbed")).run("undisturbed", SHARED)
    rows = rows_of(services.settings("undisturbed"))
    assert len(rows) == 20
    return rows
