"""The results table in order, and its current view: the newest row of each object and model.

Other rows belong to versions that were overwritten. A row with a retryable reason describes no
existing version: it is never current, and hides no other row. An object that gets back earlier
content keeps the earlier row of that content, so the row of the content in between stays current.
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
    """Return SQL for the identities of the current rows of `results`, which has these columns."""
    # Tables of older versions lack the column.
    newest = f"{_CHANGED} DESC NULLS LAST, " if _CHANGED in columns else ""
    retryable = ", ".join(map(repr, RETRYABLE))
    return f"""
SELECT {", ".join(IDENTITY)} FROM results WHERE coalesce(reason, '') NOT IN ({retryable})
QUALIFY row_number() OVER (
    PARTITION BY bucket, key, model_digest ORDER BY {newest}scored_at DESC, etag) = 1"""


@contextmanager
def ordered_rows(
    table: DeltaTable, run_id: str | None = None, *, current: bool = False, batch_rows: int = 2000
) -> Iterator[tuple[int, pa.RecordBatchReader]]:
    """Provide the number of rows, and the rows ordered by bucket, key, model and time.

    Rows are sorted on disk, so memory does not grow with the table.

    Args:
        table: results table.
        run_id: take only rows that this run wrote.
        current: take only current rows.
        batch_rows: rows per batch.
    """
    schema = table.to_pyarrow_dataset().schema
    wrote = "" if run_id is None else "WHERE run_id = $run_id"
    given = {} if run_id is None else {"run_id": run_id}
    # Whether a row is current depends on the rows of other runs, too.
    needed = None if run_id is None or current else pc.field("run_id") == run_id
    newest = f"SEMI JOIN ({current_sql(schema.names)}) USING ({', '.join(IDENTITY)})"
    chosen = f"FROM results {newest if current else ''} {wrote}"
    with database() as connection:
        fill(connection, "results", schema, scan(table, where=needed))
        count = connection.sql(f"SELECT count(*) {chosen}", params=given).fetchall()[0][0]
        ordered = f"SELECT * {chosen} ORDER BY bucket, key, model_digest, scored_at, etag"
        batches = connection.sql(ordered, params=given).to_arrow_reader(batch_rows)
        # DuckDB names time zones differently.
        cast = (batch.cast(schema) for batch in batches)
        yield count, pa.RecordBatchReader.from_batches(schema, cast)


def current_identities(rows: pa.Table) -> set[tuple[str, ...]]:
    """Return the identities of the current ones among all rows of a few objects."""
    with database() as connection:
        connection.register("results", rows)
        return set(connection.execute(current_sql(rows.column_names)).fetchall())
