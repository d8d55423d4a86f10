from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from moodlake.cli import app
from moodlake.errors import UserError
from moodlake.reasons import Reason
from moodlake.scoring.tables.current import ordered_rows
from moodlake.scoring.tables.lineage import trace
from moodlake.settings import Settings
from tests.scoring.rows import row, table

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = (None, Reason.EMPTY, Reason.VANISHED, Reason.UNREADABLE)
# Of each row the key, the model and the reason; they are written in this order.
written = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("de"), st.sampled_from(REASONS)),
    min_size=1,
    max_size=12,
)


def store(folder: Path, rows: list[tuple[str, str, Reason | None]]) -> str:
    uri = str(folder / "results")
    made = [
        row(key, digest=64 * model, reason=reason)
        | {
            "etag": f"version {number}",
            "scored_at": FIRST + timedelta(hours=number),
            "run_id": f"run {number % 2}",
        }
        for number, (key, model, reason) in enumerate(rows)
    ]
    write_deltalake(uri, table(*made), partition_by=["data_date"])
    return uri


# Each example writes a Delta table.
@pytest.mark.slow
@settings(max_examples=25)
@given(written)
def test_the_newest_real_row_of_each_object_and_model_is_current(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, Reason | None]]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake = DeltaTable(store(folder, rows))
    newest = {
        (key, 64 * model): f"version {number}"
        for number, (key, model, reason) in enumerate(rows)
        if reason is None or not reason.is_retryable
    }
    with ordered_rows(lake, current=True) as (count, reader):
        found = reader.read_all()
    assert count == found.num_rows
    assert found.schema == lake.to_pyarrow_dataset().schema
    seen = {(row["key"], row["model_digest"]): row["etag"] for row in found.to_pylist()}
    assert (seen, count) == (newest, len(newest))
    assert found["key"].to_pylist() == sorted(found["key"].to_pylist())
    with ordered_rows(lake, "run 1", current=True) as (count, _):
        assert count == sum(int(etag.split()[1]) % 2 for etag in newest.values())
    with ordered_rows(lake) as (count, reader):
        assert count == reader.read_all().num_rows == len(rows)
    with ordered_rows(lake, "run 1") as (count, reader):
        found = reader.read_all()
    assert count == found.num_rows == len(rows) // 2
    order = ["key", "model_digest", "scored_at"]
    assert found.sort_by([(name, "ascending") for name in order]).equals(found)
    place = Settings(results_uri=str(folder))
    for key in {key for key, _, _ in rows}:
        traced = {item.row["etag"] for item in trace(key, place) if item.current}
        assert traced == {etag for (name, _), etag in newest.items() if name == key}


def test_a_key_without_rows_is_an_error_that_suggests_similar_keys(tmp_path: Path) -> None:
    place = Settings(results_uri=str(tmp_path))
    write_deltalake(place.results_table, table(row("2026/cat.jpg"), row("copycat.jpg")))
    alike = "did you mean '2026/cat.jpg' of bucket 'bucket'[?]"
    with pytest.raises(UserError, match=f"no row of 'cat.jpg' in .*; {alike}$"):
        trace("cat.jpg", place)
    with pytest.raises(UserError, match=r"'cat.jpg' of bucket 'other' in .*2026/cat.jpg"):
        trace("cat.jpg", place, "other")
    with pytest.raises(UserError, match=r"no row of 'dog.jpg' in [^;]*$"):
        trace("dog.jpg", place)


def test_a_version_that_was_read_late_is_not_current(tmp_path: Path) -> None:
    uri = str(tmp_path / "results")
    newer = row("a", modified="2026-01-02T12:00:00+00:00") | {"etag": "newer", "scored_at": FIRST}
    older = row("a", modified="2026-01-02T11:00:00+00:00") | {"etag": "older"}
    write_deltalake(uri, table(newer, older | {"scored_at": FIRST + timedelta(minutes=5)}))
    with ordered_rows(DeltaTable(uri), current=True) as (_, reader):
        assert reader.read_all()["etag"].to_pylist() == ["newer"]


def test_a_table_that_tells_no_times_of_change_goes_by_those_of_scoring(tmp_path: Path) -> None:
    uri = store(tmp_path, [("a", "d", None), ("a", "d", None)])
    write_deltalake(
        uri,
        DeltaTable(uri).to_pyarrow_table().drop_columns(["last_modified"]),
        mode="overwrite",
        schema_mode="overwrite",
    )
    with ordered_rows(DeltaTable(uri), current=True) as (_, reader):
        assert reader.read_all()["etag"].to_pylist() == ["version 1"]


def test_the_table_command_shows_what_is_current(tmp_path: Path) -> None:
    uri = store(tmp_path, [("a", "d", None), ("a", "d", None), ("b", "d", None)])

    def shown(*options: str) -> str:
        done = CliRunner().invoke(app, ["table", "--uri", uri, *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert "1 of 3 rows" in shown("--limit", "1")
    assert "1 of 2 rows" in shown("--limit", "1", "--current")
    out = tmp_path / "current.csv"
    assert shown("--current", "--out", str(out)).startswith("2 rows -> ")
    text = out.read_text("utf-8")
    assert "version 0" not in text
    assert "version 1" in text


def test_the_table_command_tells_models_apart(tmp_path: Path) -> None:
    one = store(tmp_path / "one", [("a", "d", None)])
    two = store(tmp_path / "two", [("a", "d", None), ("a", "e", None)])
    shown = [CliRunner().invoke(app, ["table", "--uri", uri]).output for uri in (one, two)]
    assert ["1.0 eeee" in text for text in shown] == [False, True]
    nothing = CliRunner().invoke(app, ["table", "--uri", one, "--run", "other"])
    assert nothing.exit_code == 1
    assert "no rows of run 'other'" in nothing.output
