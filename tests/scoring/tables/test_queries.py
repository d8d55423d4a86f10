from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from moodlake.reasons import Reason, Status
from moodlake.scoring.tables.queries import BINS, ORDERS, Filter, choices, first_rows, overview
from moodlake.scoring.tables.results import ResultsTable
from tests.scoring.rows import MODEL, SPACE, row, table

MOST = math.log(len(SPACE))
OTHER = "e" * 64
DAYS = [f"2026-01-0{day}T12:00:00+00:00" for day in range(1, 5)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> DeltaTable:
    """Rows of two models, four days and several folders, a few of them rejected."""
    results = ResultsTable(str(tmp_path_factory.mktemp("lake") / "results"))
    for number, day in enumerate(DAYS):
        rows = [
            row(
                f"{folder}/{'x' * (index % 7)}{index}.jpg",
                modified=day,
                reason=Reason.NO_FACE if (index + number) % 5 == 0 else None,
                digest=OTHER if index % 3 == 0 else MODEL.digest,
            )
            for folder in ("cats", "cats-and-dogs", f"day{number}")
            for index in range(12)
        ]
        results.commit(table(*[{**each, "etag": str(number)} for each in rows]), [f"shard{number}"])
    return DeltaTable(results.uri)


@pytest.fixture(scope="module")
def frame(stored: DeltaTable) -> pd.DataFrame:
    return stored.to_pandas()


def expected(frame: pd.DataFrame, chosen: Filter) -> pd.DataFrame:
    kept = frame
    for column, value in (
        ("bucket", chosen.bucket),
        ("model_digest", chosen.model),
        ("run_id", chosen.run),
        ("dominant", chosen.emotion),
    ):
        if value is not None:
            kept = kept[kept[column] == value]
    if chosen.outcome is not None:
        column = "status" if chosen.outcome in list(Status) else "reason"
        kept = kept[kept[column] == chosen.outcome]
    kept = kept[kept["key"].str.startswith(chosen.prefix)]
    if chosen.first_day:
        kept = kept[kept["data_date"] >= chosen.first_day]
    if chosen.last_day:
        kept = kept[kept["data_date"] <= chosen.last_day]
    if chosen.min_confidence > 0:
        kept = kept[kept["confidence"] >= chosen.min_confidence]
    if chosen.max_confidence < 1:
        kept = kept[kept["confidence"] <= chosen.max_confidence]
    return kept


def filters() -> st.SearchStrategy[Filter]:
    days = st.none() | st.sampled_from([date(2026, 1, day) for day in range(1, 6)])
    return st.builds(
        Filter,
        bucket=st.sampled_from([None, "bucket", "nowhere"]),
        prefix=st.sampled_from(["", "cats", "cats/", "day1", "z", "\ud7ff", "cats-and-dogs/x"]),
        first_day=days,
        last_day=days,
        model=st.sampled_from([None, MODEL.digest, OTHER]),
        run=st.sampled_from([None, "run", "none"]),
        emotion=st.sampled_from([None, *SPACE.emotions]),
        min_confidence=st.sampled_from([0.0, 0.3]),
        max_confidence=st.sampled_from([1.0, 0.6]),
        outcome=st.sampled_from([None, *Status, Reason.NO_FACE, Reason.EMPTY]),
    )


@pytest.mark.slow
@given(chosen=filters())
@settings(max_examples=60)
def test_an_overview_is_what_pandas_counts(
    stored: DeltaTable, frame: pd.DataFrame, chosen: Filter
) -> None:
    found, rows = overview(stored, chosen, MOST), expected(frame, chosen)
    scored = rows[rows["status"] == "scored"]
    assert (found.rows, found.scored) == (len(rows), len(scored))
    assert found.dominant == scored["dominant"].value_counts().to_dict()
    assert found.reasons == rows["reason"].value_counts().to_dict()
    assert sum(found.confidence) == sum(found.entropy) == len(scored)
    for emotion in SPACE.emotions if len(scored) else ():
        assert found.mean[emotion] == pytest.approx(scored[emotion].mean(), abs=1e-6)
    assert {day: count for day, (count, _) in found.by_day.items()} == scored.groupby(
        "data_date"
    ).size().to_dict()
    for day, (_, means) in found.by_day.items():
        of_day = scored[scored["data_date"] == day]
        assert means["anger"] == pytest.approx(of_day["anger"].mean(), abs=1e-6)


def test_histograms_hold_each_value_in_its_step(stored: DeltaTable, frame: pd.DataFrame) -> None:
    found = overview(stored, Filter(), MOST)
    for name, most, counts in (
        ("confidence", 1, found.confidence),
        ("entropy", MOST, found.entropy),
    ):
        values = frame[name].dropna()
        steps = (values / most * BINS).astype(int).clip(upper=BINS - 1)
        assert counts == [int((steps == step).sum()) for step in range(BINS)]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@given(chosen=filters())
@settings(max_examples=10)
def test_first_rows_are_those_of_the_filter_in_order(
    stored: DeltaTable, frame: pd.DataFrame, order: str, chosen: Filter
) -> None:
    rows: list[dict[str, Any]] = first_rows(stored, chosen, order, 10).to_pylist()
    wanted = expected(frame, chosen)
    assert len(rows) == min(10, len(wanted))
    column, descending = {
        "most certain": ("confidence", True),
        "least certain": ("confidence", False),
        "newest": ("last_modified", True),
        "key": ("key", False),
    }[order]
    values = wanted[column].sort_values(ascending=not descending, na_position="last").tolist()
    assert [row[column] or 0 for row in rows] == [
        0 if pd.isna(value) else value for value in values[:10]
    ]


def test_what_can_be_chosen_is_what_is_there(stored: DeltaTable, tmp_path: Path) -> None:
    found = choices(stored)
    assert found is not None
    assert found.buckets == ("bucket",)
    assert {model.digest for model in found.models} == {MODEL.digest, OTHER}
    assert found.emotions == SPACE.emotions
    assert found.days == (date(2026, 1, 1), date(2026, 1, 4))
    empty = DeltaTable.create(str(tmp_path), stored.schema(), partition_by=["data_date"])
    assert choices(empty) is None
    assert overview(empty, Filter(), MOST).rows == 0
