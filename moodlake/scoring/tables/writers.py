"""Writers of results: CSV, Parquet or Delta, chosen by the name of the target."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from moodlake.emotions import LabelSpace
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import emotion_columns, results_schema, to_table


class Writer(Protocol):
    """Writes rows of `schema.make_row` in chunks; `write` returns the number of new rows."""

    def write(self, rows: list[dict[str, Any]]) -> int: ...


class _CsvWriter:
    def __init__(self, path: Path, space: LabelSpace) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, results_schema(space).names)
        self._csv.writeheader()

    def write(self, rows: list[dict[str, Any]]) -> int:
        for row in rows:
            boxes = json.dumps(row["face_boxes"], ensure_ascii=False)
            self._csv.writerow({**row, "face_boxes": boxes})
        return len(rows)

    def close(self) -> None:
        self._file.close()


class _ParquetWriter:
    def __init__(self, path: Path, space: LabelSpace) -> None:
        self._space = space
        self._parquet = pq.ParquetWriter(path, results_schema(space))

    def write(self, rows: list[dict[str, Any]]) -> int:
        self._parquet.write_table(to_table(rows, self._space))
        return len(rows)

    def close(self) -> None:
        self._parquet.close()


class _DeltaWriter:
    def __init__(self, uri: str, space: LabelSpace) -> None:
        self._table = ResultsTable(uri)
        self._space = space

    def write(self, rows: list[dict[str, Any]]) -> int:
        return self._table.commit(to_table(rows, self._space), [])


@contextmanager
def open_writer(target: str, space: LabelSpace) -> Iterator[Writer]:
    """Open a writer for *.csv, *.parquet, or else a Delta table in a folder or s3:// prefix.

    A file appears when the block ends, and not at all if the block fails. A Delta table gets each
    chunk at once; writing the same results again adds no rows.

    Raises:
        ValueError: the name ends in another extension.
        FileNotFoundError: the folder of the file does not exist.
    """
    suffix = Path(target).suffix.lower()
    if "://" in target or suffix in ("", ".delta"):
        yield _DeltaWriter(target, space)
        return
    if suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"{target}: unknown format; use .csv or .parquet, or no extension for a Delta table"
        )
    path = Path(target)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; create it first")
    part = path.with_name(path.name + ".part")
    writer = (_CsvWriter if suffix == ".csv" else _ParquetWriter)(part, space)
    try:
        yield writer
        writer.close()
        part.replace(path)
    except BaseException:
        writer.close()
        part.unlink(missing_ok=True)
        raise


def export(rows: pa.RecordBatchReader, target: str) -> int:
    """Write rows of a table to `target`; see `open_writer`.

    Returns:
        The number of rows.
    """
    space, count = LabelSpace("exported", emotion_columns(rows.schema)), 0
    with open_writer(target, space) as writer:
        for batch in rows:
            writer.write(batch.to_pylist())
            count += batch.num_rows
    return count
