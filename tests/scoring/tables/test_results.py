from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from moodlake.emotions import LabelSpace, label_space
from moodlake.prediction import LANDMARKS, FacePrediction
from moodlake.reasons import Reason
from moodlake.scoring.sources.objects import SetupError, SourceError
from moodlake.scoring.tables import commits
from moodlake.scoring.tables.commits import CommitSnapshot
from moodlake.scoring.tables.current import ordered_rows
from moodlake.scoring.tables.delta import scan
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.runs import RUNS_SCHEMA, find_run, record_run
from moodlake.scoring.tables.schema import count_outcomes, emotion_columns, results_schema
from tests.scoring.rows import MODEL, SPACE, row, scored, table

SCHEMA = results_schema(SPACE)


@pytest.fixture
def results(tmp_path: Path) -> ResultsTable:
    return ResultsTable(str(tmp_path / "results"))


def done(results: ResultsTable) -> list[tuple[str, str]]:
    known = results.existing_rows("bucket", MODEL.digest).objects
    rows = [row for batch in known for row in batch.to_pylist()]
    return sorted((row["key"], row["etag"]) for row in rows if not row["retry"])


def add(results: ResultsTable, parts: list[pa.Table], seen: CommitSnapshot) -> int:
    return results.commit_parts(lambda: parts, SCHEMA, ["shard"], seen)


def test_committing_again_adds_nothing(results: ResultsTable) -> None:
    rows = table(row("a"), row("b", reason=Reason.EMPTY))
    for _ in range(3):
        results.commit(rows, ["shard"])
    assert results.read().num_rows == 2


def test_overlapping_shards_add_each_object_once(results: ResultsTable) -> None:
    results.commit(table(row("a"), row("b")), ["one"])
    results.commit(table(row("b"), row("c")), ["two"])
    assert results.read()["key"].to_pylist() == ["a", "b", "c"]


def test_rows_that_come_twice_in_one_commit_are_added_once(results: ResultsTable) -> None:
    assert results.commit(table(row("a"), row("b"), row("a")), ["one"]) == 2
    assert results.read()["key"].to_pylist() == ["a", "b"]


def test_what_was_committed_since_the_plan_is_seen(results: ResultsTable) -> None:
    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    assert add(results, [table(row("a")), table(row("b"))], seen) == 2
    assert add(results, [table(row("b")), table(row("c"))], seen) == 1
    assert results.read()["key"].to_pylist() == ["a", "b", "c"]


def test_a_commit_that_nobody_interrupted_reads_no_rows(
    results: ResultsTable, tmp_path: Path
) -> None:
    rejected = (row("A", reason=Reason.EMPTY), row("z", reason=Reason.UNSUPPORTED_FORMAT))
    results.commit(table(*rejected, row("a")), ["one"])
    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    for file in tmp_path.rglob("*.parquet"):
        file.write_bytes(b"cannot be read")
    assert add(results, [table(row("b"))], seen) == 1
    with pytest.raises(pa.ArrowInvalid, match="Parquet"):
        results.commit(table(row("c")), ["three"])


def test_another_buckets_commits_do_not_count(results: ResultsTable) -> None:
    seen = results.existing_rows("other", MODEL.digest).snapshot
    results.commit(table(row("a")), ["one"])
    assert results.existing_rows("other", MODEL.digest).snapshot == seen
    assert results.existing_rows("bucket", MODEL.digest).snapshot.commits == seen.commits + 1


def test_only_passing_rows_are_replaced_and_once(results: ResultsTable) -> None:
    first = table(row("a", reason=Reason.VANISHED), row("b", reason=Reason.EMPTY), row("c"))
    results.commit(first, ["one"])
    again = table(*(row(key, modified="2026-03-04T00:00:00+00:00") for key in "abcd"))
    assert [results.commit(again, ["two"]) for _ in range(2)] == [2, 0]
    statuses = dict(
        zip(*(results.read()[name].to_pylist() for name in ("key", "status")), strict=True)
    )
    assert statuses == {"a": "scored", "b": "rejected", "c": "scored", "d": "scored"}


def test_rows_beside_replaced_ones_can_be_read(results: ResultsTable) -> None:
    """What delta-rs merges has strings of a type that Arrow does not compare."""
    results.commit(table(*(row(key, reason=Reason.VANISHED) for key in "abc")), ["one"])
    assert results.commit(table(row("b")), ["two"]) == 1
    assert results.commit(table(row("b"), row("d")), ["three"]) == 1
    assert done(results) == [("b", "etag"), ("d", "etag")]
    assert results.find("b")["status"].to_pylist() == ["scored"]
    with ordered_rows(DeltaTable(results.uri), "run") as (count, _):
        assert count == 4


@pytest.mark.parametrize("already", [(), ("z",)])
def test_racing_commits_add_each_object_once(
    results: ResultsTable, already: tuple[str, ...]
) -> None:
    if already:
        results.commit(table(*map(row, already)), ["before"])
    rows = table(*(row(f"key{number}") for number in range(20)))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: results.commit(rows, [f"shard{number % 2}"]), range(6)))
    assert results.read().num_rows == 20 + len(already)


def test_of_racing_runs_one_appends(results: ResultsTable) -> None:
    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    parts = [table(*(row(f"{part}-{number}") for number in range(5))) for part in range(4)]
    with ThreadPoolExecutor(6) as pool:
        tries = [pool.submit(add, results, parts, seen) for _ in range(6)]
        assert sorted(each.result() for each in tries) == [0] * 5 + [20]
    assert results.read().num_rows == 20


@pytest.mark.slow
def test_rows_of_many_dates_go_in_a_few_commits(results: ResultsTable) -> None:
    """Each date's file is open while it is written, and takes memory."""
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(250)]
    dates = [row(f"{day:%j}", modified=day.isoformat()) for day in days]
    parts = [table(*dates[150:], *dates[:50]), table(*dates[50:150])]
    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    assert [add(results, parts, seen) for _ in range(2)] == [250, 0]
    assert results.existing_rows("bucket", MODEL.digest).snapshot.commits == 3
    assert len(done(results)) == 250


@pytest.mark.slow
def test_what_others_commit_between_two_commits_of_a_run_is_left_out(
    results: ResultsTable,
) -> None:
    first, second = (
        [
            row(
                f"{year}-{number}",
                modified=f"{year}-{number // 28 + 1:02}-{number % 28 + 1:02}T00:00:00+00:00",
            )
            for number in range(100)
        ]
        for year in (2020, 2021)
    )
    raced: list[int] = []

    def parts() -> Iterator[pa.Table]:
        yield table(*first)
        yield table(*second[:50])
        if not raced:
            with ThreadPoolExecutor(1) as other:
                raced.append(other.submit(results.commit, table(second[70]), ["other"]).result())
        yield table(*second[50:])

    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    assert results.commit_parts(parts, SCHEMA, ["mine"], seen) == 199
    assert raced == [1]
    history = DeltaTable(results.uri).history()
    sizes = [entry.get("operationMetrics", {}).get("num_added_rows") for entry in history]
    assert [size for size in sizes if size] == [99, 1, 100]  # the newest first
    assert results.commit_parts(lambda: [table(*first).slice(0, 0)], SCHEMA, ["none"]) == 0
    assert len(done(results)) == len(set(done(results))) == 200


def test_a_run_that_was_overtaken_reads_the_table_once(
    results: ResultsTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    results.commit(table(row("1-1"), row("2-2", reason=Reason.VANISHED)), ["other"])
    looks: list[Any] = []
    monkeypatch.setattr(commits, "scan", lambda *a, **k: looks.append(a) or scan(*a, **k))
    parts = [table(*(row(f"{part}-{number}") for number in range(5))) for part in range(4)]
    assert add(results, parts, seen) == 19
    assert len(looks) == 1
    assert results.read()["status"].to_pylist() == ["scored"] * 20


def test_an_append_whose_rows_cannot_be_read_adds_nothing(results: ResultsTable) -> None:
    def parts() -> Iterator[pa.Table]:
        yield table(row("a"))
        raise SourceError("the store is away")

    seen = results.existing_rows("bucket", MODEL.digest).snapshot
    with pytest.raises(SourceError, match="the store is away"):
        results.commit_parts(parts, SCHEMA, ["one"], seen)
    assert done(results) == []
    assert add(results, [table(row("a"))], seen) == 1


def test_a_face_keeps_its_landmarks(results: ResultsTable) -> None:
    places = {name: (float(index), 2.5) for index, name in enumerate(LANDMARKS)}
    face = FacePrediction(1, 2, 30, 40, 0.5, places, {"neutral": 1.0})
    prediction = replace(scored("a"), faces=(face,))
    results.commit(table(row("a", prediction=prediction)), ["one"])
    (stored,) = results.read()["face_boxes"][0].as_py()
    assert stored["landmarks"]["mouth"] == {"x": 3.0, "y": 2.5}
    assert (stored["left"], stored["width"], stored["distribution"]) == (1, 30, [1.0])


def test_a_table_of_an_older_version_takes_new_rows(results: ResultsTable) -> None:
    old = table(row("a"), row("b", reason=Reason.EMPTY)).drop_columns(["brightness"])
    write_deltalake(results.uri, old, partition_by=["data_date"])
    new = table(*(row(key, prediction=replace(scored(key), brightness=0.25)) for key in "abc"))
    assert [results.commit(new, ["new"]) for _ in range(2)] == [1, 0]
    found = results.read()
    assert found["key"].to_pylist() == ["a", "b", "c"]
    assert found["brightness"].to_pylist() == [None, None, 0.25]


def test_another_model_has_rows_of_its_own(results: ResultsTable) -> None:
    results.commit(table(row("a")), ["one"])
    results.commit(table(row("a", digest="e" * 64)), ["two"])
    assert results.read().num_rows == 2
    assert done(results) == [("a", "etag")]


def test_an_object_that_is_back_replaces_its_vanished_row(results: ResultsTable) -> None:
    results.commit(table(row("a", reason=Reason.VANISHED)), ["one"])
    assert done(results) == []
    # Uploaded again on a later day: another partition of the table.
    results.commit(table(row("a", modified="2026-03-04T00:00:00+00:00")), ["two"])
    assert results.read()["status"].to_pylist() == ["scored"]


def test_a_row_scored_meanwhile_takes_the_place_of_a_passing_one(results: ResultsTable) -> None:
    results.commit(table(row("z")), ["before"])
    planned = results.existing_rows("bucket", MODEL.digest).snapshot
    add(results, [table(row("a", reason=Reason.VANISHED))], planned)
    assert add(results, [table(row("a"), row("b"))], planned) == 2
    assert results.read()["status"].to_pylist() == ["scored"] * 3


def test_what_is_still_away_stays_as_it_was(results: ResultsTable) -> None:
    results.commit(table(row("a", reason=Reason.VANISHED)), ["one"])
    assert results.commit(table(row("a", reason=Reason.UNREADABLE)), ["two"]) == 0
    assert results.read()["reason"].to_pylist() == ["vanished"]


def test_a_table_of_an_older_schema_takes_new_columns(results: ResultsTable) -> None:
    old = table(row("a")).drop_columns(["version_id", "confidence"])
    write_deltalake(results.uri, old, partition_by=["data_date"])
    results.commit(table(row("b")), ["one"])
    assert [value is None for value in results.read()["confidence"].to_pylist()] == [True, False]


def test_a_table_whose_columns_mean_something_else_is_refused(results: ResultsTable) -> None:
    rows = table(row("a"))
    other = rows.set_column(rows.schema.get_field_index("size"), "size", pa.array(["ten bytes"]))
    write_deltalake(results.uri, other, partition_by=["data_date"])
    with pytest.raises(SetupError, match=r"size.*MOODLAKE_RESULTS_URI"):
        results.commit(table(row("b")), ["one"])


def test_nothing_is_done_before_the_first_commit(results: ResultsTable) -> None:
    assert done(results) == []


def test_rows_are_dated_by_their_data_in_utc(results: ResultsTable) -> None:
    assert str(table(row("a"))["data_date"][0]) == "2026-01-02"


def test_outcomes_are_counted() -> None:
    rows = table(row("a"), row("b", reason=Reason.EMPTY), row("c", reason=Reason.EMPTY))
    assert count_outcomes(rows) == (1, 2, {"empty": 2})


def test_the_schema_has_a_column_for_each_emotion() -> None:
    space = label_space("ferplus")
    assert emotion_columns(results_schema(space)) == space.emotions
    with pytest.raises(ValueError, match="confidence"):
        results_schema(LabelSpace("mine", ("confidence", "fear")))


def test_a_run_is_recorded_once(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    uri = str(tmp_path / "runs")
    began = datetime(2026, 1, 2, tzinfo=UTC)
    assert find_run(uri, "r", began) is None
    record = dict.fromkeys(RUNS_SCHEMA.names) | {"run_id": "r", "started_at": began, "objects": 3}
    for _ in range(2):
        record_run(uri, record)
    assert DeltaTable(uri).to_pyarrow_table().num_rows == 1
    assert find_run(uri, "r", began) == record
    assert find_run(uri, "r", began + timedelta(seconds=1)) is None
