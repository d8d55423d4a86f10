"""The results table and the run records, as Delta tables: the one place for their schema."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from moodlake.blazeface import LANDMARKS
from moodlake.emotions import LabelSpace
from moodlake.faces import FaceMode
from moodlake.model import ModelIdentity
from moodlake.prediction import Prediction
from moodlake.reasons import Reason, Status
from moodlake.scoring.inventory import SourceObject

IDENTITY = ("bucket", "key", "etag", "model_digest")
"""One row per object version and model: no two rows share these."""

_COMMIT_ATTEMPTS = 10
_PASSING = [str(reason) for reason in Reason if reason.is_passing]
_UTC_TIME = pa.timestamp("us", tz="UTC")

_PLACE = pa.struct([("x", pa.float32()), ("y", pa.float32())])
_FACE = pa.struct(
    [
        ("left", pa.int32()),
        ("top", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("confidence", pa.float32()),
        ("landmarks", pa.struct([(name, _PLACE) for name in LANDMARKS])),
        ("distribution", pa.list_(pa.float32())),
    ]
)
_SOURCE_FIELDS = [
    ("bucket", pa.string()),
    ("key", pa.string()),
    ("version_id", pa.string()),
    ("etag", pa.string()),
    ("size", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("detail", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("format", pa.string()),
    ("faces", pa.int32()),
    ("face_boxes", pa.list_(_FACE)),
]
_OUTCOME_FIELDS = [
    ("dominant", pa.string()),
    ("confidence", pa.float32()),
    ("entropy", pa.float32()),
    ("face_mode", pa.string()),
    ("label_space", pa.string()),
    ("model_name", pa.string()),
    ("model_version", pa.string()),
    ("model_digest", pa.string()),
    ("run_id", pa.string()),
    ("shard_id", pa.string()),
    ("scored_at", _UTC_TIME),
    ("data_date", pa.date32()),
]
RUNS_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("bucket", pa.string()),
        ("prefix", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("provenance", pa.string()),
        ("git_commit", pa.string()),
        ("params", pa.string()),
        ("objects", pa.int64()),
        ("shards", pa.int64()),
        ("scored", pa.int64()),
        ("rejected", pa.int64()),
        ("reasons", pa.string()),
        ("problem", pa.string()),
        ("started_at", _UTC_TIME),
        ("ended_at", _UTC_TIME),
        ("images_per_second", pa.float64()),
    ]
)


def results_schema(space: LabelSpace) -> pa.Schema:
    """Columns of the results table: source and image, one per emotion, outcome and lineage.

    Raises:
        ValueError: an emotion bears the name of another column.
    """
    taken = {name for name, _ in [*_SOURCE_FIELDS, *_OUTCOME_FIELDS]} & set(space.emotions)
    if taken:
        raise ValueError(f"label space {space.name!r} uses column names of the table: {taken}")
    emotions = [(emotion, pa.float32()) for emotion in space.emotions]
    return pa.schema([*_SOURCE_FIELDS, *emotions, *_OUTCOME_FIELDS])


def emotion_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold probabilities: those that belong to no other part of the schema."""
    others = {name for name, _ in [*_SOURCE_FIELDS, *_OUTCOME_FIELDS]}
    return tuple(name for name in schema.names if name not in others)


def make_row(
    item: SourceObject,
    prediction: Prediction,
    *,
    space: LabelSpace,
    model: ModelIdentity,
    faces: FaceMode,
    run_id: str,
    shard_id: str,
) -> dict[str, Any]:
    """One row of the results table."""
    modified = datetime.fromisoformat(item.last_modified)
    distribution = prediction.distribution or dict.fromkeys(space.emotions)
    source = {name: value for name, value in item.to_dict().items() if name != "last_modified"}
    outcome = prediction.to_dict()
    boxes = [_face_row(face) for face in outcome["faces"]]
    return {
        **source,
        **{name: outcome[name] for name in ("detail", "width", "height", "format")},
        "status": str(prediction.status),
        "reason": str(prediction.reason) if prediction.reason else None,
        "faces": len(boxes),
        "face_boxes": boxes,
        **distribution,
        **{name: outcome[name] for name in ("dominant", "confidence", "entropy")},
        "face_mode": str(faces),
        "label_space": space.name,
        "model_name": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
        "run_id": run_id,
        "shard_id": shard_id,
        "scored_at": datetime.now(UTC),
        "data_date": modified.astimezone(UTC).date(),
    }


def _face_row(face: dict[str, Any]) -> dict[str, Any]:
    """A face of `Prediction.to_dict` as an element of `face_boxes`."""
    return {
        **face,
        "landmarks": {name: {"x": x, "y": y} for name, (x, y) in face["landmarks"].items()},
        "distribution": face["distribution"] and list(face["distribution"].values()),
    }


def to_table(rows: Sequence[dict[str, Any]], space: LabelSpace) -> pa.Table:
    """Rows of `make_row` as an Arrow table in the schema of `space`."""
    return pa.Table.from_pylist(list(rows), schema=results_schema(space))


class ResultsTable:
    """A Delta table of results at `uri`, a folder or s3:// prefix; created at the first commit."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self) -> DeltaTable | None:
        """The table as it is now, or None before the first commit."""
        try:
            return DeltaTable(self.uri)
        except TableNotFoundError:
            return None

    def done(self, bucket: str, model_digest: str) -> set[tuple[str, str, str]]:
        """Identities (bucket, key, etag) of `bucket` that need no scoring by this model.

        An object that had vanished is not among them: if it is listed again, it is back. Nor is
        one that could not be read.
        """
        table = self.open()
        if table is None:
            return set()
        wanted = (
            (pc.field("bucket") == bucket)
            & (pc.field("model_digest") == model_digest)
            & (pc.field("reason").is_null() | ~pc.field("reason").isin(_PASSING))
        )
        rows = table.to_pyarrow_dataset().to_table(["bucket", "key", "etag"], filter=wanted)
        return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))

    def commit(self, rows: pa.Table, shard_ids: Sequence[str]) -> int:
        """Add `rows`, each identity once, as one Delta commit; returns how many were written.

        A row whose identity is there already is left as it is (or replaced, if its reason was
        a passing one), so that committing again, or from two runs at once, changes
        nothing. The shard ids go along as Delta transactions: of two racing commits of one
        shard, one is refused, reads the table anew and finds the work done.

        Raises:
            CommitFailedError: other writers won the race too many times.
        """
        return _merge(
            self.uri,
            rows,
            IDENTITY,
            partition_by=["data_date"],
            replaceable=" OR ".join(f"t.reason = '{reason}'" for reason in _PASSING),
            transactions=[Transaction(shard_id, 1) for shard_id in shard_ids],
        )

    def read(self, run_id: str | None = None) -> pa.Table:
        """All rows, or those that one run wrote, ordered by bucket and key.

        Raises:
            TableNotFoundError: nothing was ever committed.
        """
        chosen = pc.field("run_id") == run_id if run_id else None
        rows = DeltaTable(self.uri).to_pyarrow_dataset().to_table(filter=chosen)
        return rows.sort_by([("bucket", "ascending"), ("key", "ascending")])


def count_outcomes(rows: pa.Table) -> tuple[int, int, dict[str, int]]:
    """(scored, rejected, rejected by reason)."""
    scored = pc.sum(pc.equal(rows["status"], str(Status.SCORED))).as_py() or 0
    counts = rows["reason"].drop_null().value_counts().to_pylist()
    reasons = {entry["values"]: entry["counts"] for entry in counts}
    return scored, rows.num_rows - scored, dict(sorted(reasons.items()))


def record_run(uri: str, record: dict[str, Any]) -> None:
    """Add one run to the Delta table of runs; a run that is there already stays as it is."""
    rows = pa.Table.from_pylist([record], schema=RUNS_SCHEMA)
    _merge(uri, rows, ("run_id", "started_at"))


def find_run(uri: str, run_id: str, started_at: datetime) -> dict[str, Any] | None:
    """The record of a run, if it was written; a run that was cleared in Airflow starts anew."""
    try:
        runs = DeltaTable(uri).to_pyarrow_dataset()
    except TableNotFoundError:
        return None
    same = (pc.field("run_id") == run_id) & (pc.field("started_at") == started_at)
    return next(iter(runs.to_table(filter=same).to_pylist()), None)


def _merge(
    uri: str,
    rows: pa.Table,
    identity: Sequence[str],
    *,
    partition_by: list[str] | None = None,
    replaceable: str = "false",
    transactions: list[Transaction] | None = None,
) -> int:
    """Insert the rows whose identity is new; a row that is there stays, unless `replaceable`.

    Returns how many were written. A racing writer makes the commit fail, or the creation of the
    table; then all is read anew.
    """
    attempt = 0
    while True:
        try:
            DeltaTable.create(uri, rows.schema, partition_by=partition_by, mode="ignore")
            merger = DeltaTable(uri).merge(
                rows,
                predicate=" AND ".join(f"t.{name} = s.{name}" for name in identity),
                source_alias="s",
                target_alias="t",
                merge_schema=True,
                commit_properties=CommitProperties(app_transactions=transactions),
            )
            merger.when_matched_update_all(predicate=replaceable).when_not_matched_insert_all()
            done = merger.execute()
            return int(done["num_target_rows_inserted"] + done["num_target_rows_updated"])
        except CommitFailedError:
            attempt += 1
            if attempt == _COMMIT_ATTEMPTS:
                raise
            time.sleep(0.05 * 2**attempt * random.uniform(0.5, 1))
