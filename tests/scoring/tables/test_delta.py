"""Streams of rows: neither their use nor their end needs a free thread of Arrow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

READ = """
import sys
from datetime import UTC, datetime, timedelta
from moodlake.scoring.tables.queries import Filter, overview
from moodlake.scoring.tables.results import ResultsTable
from tests.scoring.rows import MODEL, row, table

results = ResultsTable(sys.argv[1])
days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(60)]
results.commit(table(*(row(f"{day:%j}", modified=day.isoformat()) for day in days)), ["shard"])
abandoned = [results.existing_rows("bucket", MODEL.digest).objects for _ in range(3)]
begun = iter(results.existing_rows("bucket", MODEL.digest).objects)
next(begun)
assert overview(results.open(), Filter(), 2.0).rows == 60
print(sum(map(len, results.existing_rows("bucket", MODEL.digest).objects)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_abandoned_streams_block_neither_other_streams_nor_the_end_of_the_process(
    tmp_path: Path, threads: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},  # sets Arrow's threads, too
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["60"]
