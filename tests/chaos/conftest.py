from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from botocore.client import BaseClient

from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from tests.chaos.compare import rows_of
from tests.chaos.parts import Parts, objects, put
from tests.chaos.scheduler import Scheduler

SHARED = RunParams("shared", shard_size=10, batch_size=4)


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """S3 and a model server, to which this process is led, too."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Parts(tmp_path_factory.mktemp("parts")) as running,
    ):
        for name, value in running.s3.environment().items():
            patch.setenv(name, value)
        # As many clients do, which leaves only the length to tell a part from the whole.
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield running


@pytest.fixture(scope="package")
def s3(parts: Parts) -> BaseClient:
    return s3_client()


@pytest.fixture(scope="package")
def undisturbed(parts: Parts, s3: BaseClient) -> pd.DataFrame:
    """What a run makes of the bucket `shared`, which nobody changes, if nothing happens to it."""
    s3.create_bucket(Bucket=SHARED.bucket)
    put(s3, SHARED.bucket, objects(20))
    assert Scheduler(parts.environment("undisturbed")).run("undisturbed", SHARED)
    rows = rows_of(parts.settings("undisturbed"))
    assert len(rows) == 20
    return rows
