"""Comparison of a results table with that of an undisturbed run over the same objects."""

from __future__ import annotations

import pandas as pd

from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import IDENTITY
from moodlake.settings import Settings

# These differ between any two runs.
_RUN_COLUMNS = ["run_id", "shard_id", "scored_at"]


def rows_of(settings: Settings) -> pd.DataFrame:
    """Return the results indexed by identity, without the columns that differ between runs."""
    rows = ResultsTable(settings.results_table).read().to_pandas()
    return rows.drop(columns=_RUN_COLUMNS).set_index(list(IDENTITY)).sort_index()


def assert_same(disturbed: pd.DataFrame, undisturbed: pd.DataFrame) -> None:
    """Check that both tables have the same rows, each once, with equal values.

    Raises:
        AssertionError: rows are missing, duplicated, extra or different; the message names them.
    """
    duplicates = disturbed.index[disturbed.index.duplicated()]
    assert duplicates.empty, f"duplicated: {list(duplicates[:5])}"
    missing = undisturbed.index.difference(disturbed.index)
    assert missing.empty, f"{len(missing)} missing: {list(missing[:5])}"
    extra = disturbed.index.difference(undisturbed.index)
    assert extra.empty, f"{len(extra)} extra: {list(extra[:5])}"
    pd.testing.assert_frame_equal(disturbed, undisturbed, check_exact=True)
