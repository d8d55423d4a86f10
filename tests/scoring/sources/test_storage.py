"""Files of runs in a folder, with several writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moodlake.scoring import pipeline
from moodlake.scoring.run.staging import Staging
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.objects import SetupError
from moodlake.settings import Settings
from tests.scoring.rows import planned


def test_of_writers_of_one_file_each_leaves_it_whole(tmp_path: Path) -> None:
    """As when a task that was taken for dead stages its rows beside its next try."""
    uri = str(tmp_path / "work" / "rows")
    contents = [bytes([number]) * 200_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            list(pool.map(lambda data: storage.write_bytes(uri, data), contents))
            assert storage.read_bytes(uri) in contents
    assert [file.uri for file in storage.list_files(str(tmp_path))] == [uri]


def test_a_plan_that_is_refused_leaves_none_of_an_earlier_try(tmp_path: Path) -> None:
    settings = Settings(results_uri=str(tmp_path))
    work = Staging(settings.results_uri, "run")
    work.write_run(planned())
    with pytest.raises(ValueError, match="max_broken"):
        pipeline.plan_requested("run", {"max_broken": -5}, settings, "hand")
    with pytest.raises(SetupError, match="no plan"):
        work.read_run()
