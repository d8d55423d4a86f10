"""The table in order; and its current view, of each object and model the newest row.

Older rows are those of versions that were overwritten since. A row with a passing reason tells of
no version that there is: it is not current, and hides none that is. What is put back as it was
before has its row already, as of then: the row of what was there meanwhile stays the current one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from moodlake.scoring.tables.delta import scan
from moodlake.scoring.tables.duckdb_spill import database, fill
from moodlake.scoring.tables.schema import IDENTITY, RETRYABLE

_CHANGED = "last_modified"


def current_sql(columns: Sequence[str]) -> str:
    """SQL for the identities of the current rows of `results`, which has these columns."""
    # Older tables do not tell when an object was changed.
    newest = f"{_CHANGED} DESC NULLS LAST, " if _CHANGED in columns else ""
    passing = ", ".join(map(repr, RETRYABLE))
    return f"""
SELECT {", ".join(IDENTITY)} FROM results WHERE coalesce(reason, '') NOT IN ({passing})
QUALIFY row_number() OVER (
    PARTITION BY bucket, key, model_digest ORDER BY {newest}scored_at DESC, etag) = 1"""


@contextmanager
def ordered_rows(
    table: DeltaTable, run_id: str | None = None, *, current: bool = False, batch_rows: int = 2000
) -> Iterator[tuple[int, pa.RecordBatchReader]]:
    """How many rows there are, and the rows, ordered by bucket, key, model and time.

    They are found on disk: memory does not grow with the table.

    Args:
        table: of results.
        run_id: only those that this run wrote.
        current: only the current ones.
        batch_rows: how many come in a batch.
    """
    schema = table.to_pyarrow_dataset().schema
    wrote = "" if run_id is None else "WHERE run_id = $run_id"
    given = {} if run_id is None else {"run_id": run_id}
    # What is current hangs on the rows of other runs, too.
    needed = None if run_id is None or current else pc.field("run_id") == run_id
    newest = f"SEMI JOIN ({current_sql(schema.names)}) USING ({', '.join(IDENTITY)})"
    chosen = f"FROM results {newest if current else ''} {wrote}"
    with database() as connection:
        fill(connection, "results", schema, scan(table, where=needed).to_batches())
        count = connection.sql(f"SELECT count(*) {chosen}", params=given).fetchall()[0][0]
        ordered = f"SELECT * {chosen} ORDER BY bucket, key, model_digest, scored_at, etag"
        batches = connection.sql(ordered, params=given).to_arrow_reader(batch_rows)
        # DuckDB names time zones in its own way.
        told = (batch.cast(schema) for batch in batches)
        yield count, pa.RecordBatchReader.from_batches(schema, told)


def current_identities(rows: pa.Table) -> set[tuple[str, ...]]:
    """Which of a few rows are current, all rows of their objects being there; as IDENTITY."""
    with database() as connection:
        connection.register("results", rows)
        return set(connection.execute(current_sql(rows.column_names)).fetchall())
