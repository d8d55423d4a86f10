"""Is a table what an undisturbed run makes of the same objects?"""

from __future__ import annotations

import pandas as pd

from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import IDENTITY
from moodlake.settings import Settings

# Which run, when: these differ between any two runs.
_OF_A_RUN = ["run_id", "shard_id", "scored_at"]


def rows_of(settings: Settings) -> pd.DataFrame:
    """The results by identity, without what differs between any two runs."""
    rows = ResultsTable(settings.results_table).read().to_pandas()
    return rows.drop(columns=_OF_A_RUN).set_index(list(IDENTITY)).sort_index()


def assert_same(disturbed: pd.DataFrame, undisturbed: pd.DataFrame) -> None:
    """Every row once, and equal in all columns.

    Raises:
        AssertionError: it names the rows that are missing, too many or different.
    """
    twice = disturbed.index[disturbed.index.duplicated()]
    assert twice.empty, f"more than once: {list(twice[:5])}"
    missing = undisturbed.index.difference(disturbed.index)
    assert missing.empty, f"{len(missing)} missing: {list(missing[:5])}"
    added = disturbed.index.difference(undisturbed.index)
    assert added.empty, f"{len(added)} too many: {list(added[:5])}"
    pd.testing.assert_frame_equal(disturbed, undisturbed, check_exact=True)
