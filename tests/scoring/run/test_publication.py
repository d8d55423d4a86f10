"""How staged shards get into the table, a few in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moodlake.reasons import Reason
from moodlake.scoring.run import publication
from moodlake.scoring.run.policy import Policy
from moodlake.scoring.run.publication import Publication
from moodlake.scoring.run.staging import Staging
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.tables.results import ResultsTable
from tests.scoring.rows import planned, row, table

SHARDS = ("one", "two", "three", "again")


@pytest.fixture(autouse=True)
def two_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "ROWS_AT_ONCE", 2)


def staged(folder: Path, shard_ids: tuple[str, ...] = SHARDS) -> Staging:
    files = Staging(str(folder), "run")
    for shard_id in shard_ids:
        rows = [{**row(f"{shard_id}-{key}"), "shard_id": shard_id} for key in "abc"]
        files.write_rows(shard_id, table(*rows), {"read": 0.5})
    return files


def publish(folder: Path, files: Staging) -> Publication:
    results = ResultsTable(str(folder / "results"))
    run = planned(shard_ids=SHARDS, retried=("again",), listed=12, pending_objects=12)
    made = Publication(run, files, results.uri, Policy())
    made.publish()
    return made


def stored(folder: Path) -> pa.Table:
    return ResultsTable(str(folder / "results")).read()


@pytest.mark.slow
def test_what_is_new_is_one_commit_however_many_shards(tmp_path: Path) -> None:
    made = publish(tmp_path, staged(tmp_path))
    assert (made.summary.objects, made.summary.scored, made.summary.bytes) == (12, 12, 120)
    assert made.summary.profile.scored == 12
    assert made.seconds == {"read": 2.0}
    assert not made.problems
    assert stored(tmp_path).num_rows == 12
    opened = ResultsTable(str(tmp_path / "results")).open()
    assert opened is not None
    writes = [entry for entry in opened.history() if entry["operation"] == "WRITE"]
    assert len(writes) == 2  # one of new rows, one of retried rows


@pytest.mark.slow
def test_publishing_again_changes_nothing_and_reports_the_same(tmp_path: Path) -> None:
    files = staged(tmp_path)
    first, again = publish(tmp_path, files), publish(tmp_path, files)
    assert stored(tmp_path).num_rows == 12
    assert first.summary.profile == again.summary.profile
    assert first.seconds == again.seconds


@pytest.mark.slow
def test_what_others_committed_meanwhile_is_left_out(tmp_path: Path) -> None:
    ResultsTable(str(tmp_path / "results")).commit(table(row("two-b"), row("z")), ["other"])
    publish(tmp_path, staged(tmp_path))
    keys = stored(tmp_path)["key"].to_pylist()
    assert len(keys) == len(set(keys)) == 13


@pytest.mark.slow
def test_a_retried_object_replaces_its_row(tmp_path: Path) -> None:
    away = [row(f"again-{key}", reason=Reason.VANISHED) for key in "abc"]
    ResultsTable(str(tmp_path / "results")).commit(table(*away), ["before"])
    publish(tmp_path, staged(tmp_path))
    assert stored(tmp_path)["status"].to_pylist() == ["scored"] * 12


@pytest.mark.slow
def test_rows_that_change_after_their_audit_are_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task attempt presumed dead may still stage rows."""
    files = staged(tmp_path)
    odd = {"shard_id": "two", "happiness": 2.0}
    changed = table(*({**row(f"two-{key}"), **odd} for key in "abc"))
    audit = publication.audit_shards

    def overwritten_later(*arguments: Any) -> Any:
        failures = audit(*arguments)
        if "three" in arguments[0]:
            files.write_rows("two", changed, {})
        return failures

    monkeypatch.setattr(publication, "audit_shards", overwritten_later)
    with pytest.raises(SourceError, match="rows of shard two changed"):
        publish(tmp_path, files)
    assert stored(tmp_path).num_rows == 0
    monkeypatch.undo()
    assert "shard two failed the gate" in publish(tmp_path, files).problems[0]
    assert stored(tmp_path).num_rows == 9


def test_missing_or_quarantined_shards_do_not_affect_the_others(tmp_path: Path) -> None:
    files = staged(tmp_path, ("one", "again"))
    other = [{**row(f"two-{key}", digest="e" * 64), "shard_id": "two"} for key in "abc"]
    files.write_rows("two", table(*other), {})
    made = publish(tmp_path, files)
    assert stored(tmp_path).num_rows == made.summary.objects == 6
    quarantined, missing = made.problems
    assert "shard two failed the gate: the model is the planned one" in quarantined
    assert "shard three was not scored" in missing
