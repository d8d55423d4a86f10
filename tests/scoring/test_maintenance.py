from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable

from moodlake.reasons import Reason
from moodlake.scoring import maintenance
from moodlake.scoring.maintenance import maintain
from moodlake.scoring.run.params import UpkeepParams
from moodlake.scoring.tables.commits import CommitSnapshot
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import results_schema
from moodlake.settings import Settings
from tests.scoring.rows import MODEL, SPACE, row, table

DAYS = ("2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00")
SCHEMA = results_schema(SPACE)
DAY_MS = 86_400_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(results_uri=str(tmp_path))


def commit_small(settings: Settings, count: int, name: str = "") -> None:
    results = ResultsTable(settings.results_table)
    for number in range(count):
        rows = table(row(f"{name}{number:04d}", modified=DAYS[number % 2]))
        ids = [f"shard{name}{number}"]
        assert results.commit_parts(partial(iter, [rows]), SCHEMA, ids, seen(settings)) == 1


def seen(settings: Settings) -> CommitSnapshot:
    return ResultsTable(settings.results_table).existing_rows("bucket", MODEL.digest).snapshot


def age_log(settings: Settings, days: int) -> None:
    """Move all times in a table's log back by `days` days."""
    past = time.time() - 86_400 * days
    for file in Path(settings.results_table).rglob("*"):
        if file.suffix == ".json":
            lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            for action in lines:
                if "remove" in action:
                    action["remove"]["deletionTimestamp"] -= DAY_MS * days
                if "commitInfo" in action:
                    action["commitInfo"]["timestamp"] -= DAY_MS * days
            file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
        if file.is_file():
            os.utime(file, (past, past))


@pytest.mark.slow
def test_many_small_commits_become_few_files_with_the_same_rows(settings: Settings) -> None:
    commit_small(settings, 30)
    results = ResultsTable(settings.results_table)
    before = results.read()
    done = maintain(settings, UpkeepParams())
    assert done["results"] == {"files_before": 30, "files": 2, "deleted": 0}
    assert done["runs"] is None
    assert results.read().equals(before)


def test_maintaining_again_changes_nothing(settings: Settings) -> None:
    commit_small(settings, 5)
    maintain(settings, UpkeepParams())
    version = DeltaTable(settings.results_table).version()
    assert maintain(settings, UpkeepParams())["results"]["files_before"] == 2
    assert DeltaTable(settings.results_table).version() == version


def test_old_files_go_and_younger_ones_stay(settings: Settings) -> None:
    commit_small(settings, 6)
    orphan = Path(settings.results_table) / "data_date=2026-01-02" / "of-a-killed-writer.parquet"
    orphan.write_bytes(b"not committed yet")
    assert maintain(settings, UpkeepParams(retention_hours=48))["results"]["deleted"] == 0
    assert orphan.exists()
    before = ResultsTable(settings.results_table).read()
    age_log(settings, days=3)
    # Without a checkpoint the log is read; the checkpoint has the later times.
    for file in Path(settings.results_table, "_delta_log").glob("*checkpoint*"):
        file.unlink()
    assert maintain(settings, UpkeepParams(retention_hours=96))["results"]["deleted"] == 0
    assert maintain(settings, UpkeepParams(retention_hours=48))["results"]["deleted"] == 7
    assert len(list(Path(settings.results_table).glob("data_date=*/*.parquet"))) == 2
    assert ResultsTable(settings.results_table).read().equals(before)


def test_counters_of_commits_outlive_the_log(settings: Settings) -> None:
    commit_small(settings, 12)
    maintain(settings, UpkeepParams())
    age_log(settings, days=40)
    assert maintain(settings, UpkeepParams())["results"]["files"] == 2
    log = Path(settings.results_table, "_delta_log")
    assert not (log / f"{0:020d}.json").exists()
    assert seen(settings).commits == 12
    assert DeltaTable(settings.results_table).transaction_version("shard3") == 1
    results = ResultsTable(settings.results_table)
    # A run that planned before the last commit still sees that it is not alone.
    late = table(row("0000"), row("new"))
    planned = replace(seen(settings), commits=11)
    assert results.commit_parts(lambda: [late], SCHEMA, ["late"], planned) == 1
    assert seen(settings).commits == 13


@pytest.mark.slow
@pytest.mark.parametrize("passing", [None, Reason.VANISHED])
def test_runs_commit_while_it_works(settings: Settings, passing: Reason | None) -> None:
    """Appends and, where rows that had vanished are replaced, merges race with compaction."""
    keys = [f"{writer}-{number}" for writer in range(3) for number in range(8)]
    results = ResultsTable(settings.results_table)
    for key in keys:
        results.commit(table(row(f"old-{key}", reason=passing)), [f"old-{key}"])

    def write(writer: int) -> None:
        for key in keys[writer * 8 : writer * 8 + 8]:
            results.commit(table(row(f"old-{key}"), row(f"new-{key}")), [f"new-{key}"])

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, writer) for writer in range(3)]
        compacted = []
        while not all(writer.done() for writer in writers):
            report = maintain(settings, UpkeepParams())["results"]
            compacted.append(report["files_before"] > report["files"])
        for writer in writers:
            writer.result()
    assert any(compacted)
    rows = results.read()
    assert sorted(rows["key"].to_pylist()) == sorted(
        f"{age}-{key}" for age in ("old", "new") for key in keys
    )
    assert set(rows["status"].to_pylist()) == {"scored"}
    assert maintain(settings, UpkeepParams())["results"]["files"] == 1


@pytest.mark.parametrize("step", ["_vacuum", "clear_abandoned"])
def test_what_a_kill_leaves_is_done_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    commit_small(settings, 6)

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, step, die)
        with pytest.raises(KeyboardInterrupt):
            maintain(settings, UpkeepParams())
    assert maintain(settings, UpkeepParams())["results"]["files"] == 2
    assert ResultsTable(settings.results_table).read().num_rows == 6


def touch(file: Path, days: float) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    os.utime(file, (time.time() - 86_400 * days,) * 2)
    return file


def test_only_abandoned_work_is_cleared(tmp_path: Path, settings: Settings) -> None:
    work = tmp_path / "work"
    gone = [touch(work / "ended" / name, 9) for name in ("run.json", "s.json", "s.arrow")]
    gone.append(touch(work / "plan failed" / "s.json", 8))
    kept = [
        touch(work / "slow" / "run.json", 9),
        touch(work / "slow" / "s.arrow", 1),
        touch(work / "young" / "run.json", 6),
        touch(tmp_path / "refused" / "s.arrow", 20),
        touch(tmp_path / "reports" / "r" / "diff.html", 300),
    ]
    assert maintain(settings, UpkeepParams())["work"] == 2
    assert [file.exists() for file in gone] == [False] * 4
    assert not (work / "ended").exists()
    assert all(file.exists() for file in kept)
    done = maintain(settings, UpkeepParams(refused_days=19, reports_days=301))
    assert (done["refused"], done["reports"]) == (1, 0)


def test_files_in_use_by_readers_cannot_be_deleted() -> None:
    with pytest.raises(ValueError, match="retention_hours is 1; it must be at least 2"):
        UpkeepParams(retention_hours=1)
    with pytest.raises(ValueError, match="work_days is 0"):
        replace(UpkeepParams(), work_days=0)
