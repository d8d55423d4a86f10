"""Columns of the results table, and the conversion of predictions to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moodlake.emotions import LabelSpace
from moodlake.prediction import LANDMARKS, FaceMode, FacePrediction, ModelIdentity, Prediction
from moodlake.reasons import Reason, Status
from moodlake.scoring.sources.objects import SourceObject

IDENTITY = ("bucket", "key", "etag", "model_digest")
"""One row per object version and model: no two rows share these."""
RETRYABLE = tuple(str(reason) for reason in Reason if reason.is_retryable)
"""Reasons of rows that a later row may replace: the object was missing or could not be read."""
UTC_TIME = pa.timestamp("us", tz="UTC")

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
    ("last_modified", UTC_TIME),
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
    ("brightness", pa.float32()),
    ("face_mode", pa.string()),
    ("label_space", pa.string()),
    ("model_name", pa.string()),
    ("model_version", pa.string()),
    ("model_digest", pa.string()),
    ("run_id", pa.string()),
    ("shard_id", pa.string()),
    ("scored_at", UTC_TIME),
    ("data_date", pa.date32()),
]


def results_schema(space: LabelSpace) -> pa.Schema:
    """Return the columns of the results table: source, image, emotions, outcome and lineage.

    Raises:
        ValueError: an emotion has the name of another column.
    """
    taken = {name for name, _ in [*_SOURCE_FIELDS, *_OUTCOME_FIELDS]} & set(space.emotions)
    if taken:
        raise ValueError(f"label space {space.name!r} uses column names of the table: {taken}")
    emotions = [(emotion, pa.float32()) for emotion in space.emotions]
    return pa.schema([*_SOURCE_FIELDS, *emotions, *_OUTCOME_FIELDS])


def emotion_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that hold probabilities: those outside the fixed part of the schema."""
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
    """Make a row of the results table from a prediction."""
    modified = datetime.fromisoformat(item.last_modified)
    distribution = prediction.distribution or dict.fromkeys(space.emotions)
    outcome = vars(prediction)
    return {
        **vars(item),
        "last_modified": modified,
        **{name: outcome[name] for name in ("detail", "width", "height", "format")},
        "status": str(prediction.status),
        "reason": str(prediction.reason) if prediction.reason else None,
        "faces": len(prediction.faces),
        "face_boxes": list(map(_face_row, prediction.faces)),
        **distribution,
        **{name: outcome[name] for name in ("dominant", "confidence", "entropy", "brightness")},
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


def _face_row(face: FacePrediction) -> dict[str, Any]:
    """Convert a face to an element of `face_boxes`."""
    return {
        **vars(face),
        "landmarks": {name: {"x": x, "y": y} for name, (x, y) in face.landmarks.items()},
        "distribution": face.distribution and list(face.distribution.values()),
    }


def faces_in(row: dict[str, Any], emotions: Sequence[str]) -> tuple[FacePrediction, ...]:
    """Return the faces of a row, with distributions over `emotions`."""
    return tuple(_face_of(box, emotions) for box in row["face_boxes"] or ())


def _face_of(box: dict[str, Any], emotions: Sequence[str]) -> FacePrediction:
    """Invert `_face_row`. Rows of older versions have no landmarks."""
    landmarks = {name: (place["x"], place["y"]) for name, place in (box["landmarks"] or {}).items()}
    shares = box["distribution"] and dict(zip(emotions, box["distribution"], strict=True))
    return FacePrediction(**{**box, "landmarks": landmarks, "distribution": shares})


def to_table(rows: Sequence[dict[str, Any]], space: LabelSpace) -> pa.Table:
    """Convert rows of `make_row` to an Arrow table in the schema of `space`."""
    return pa.Table.from_pylist(list(rows), schema=results_schema(space))


def count_outcomes(rows: pa.Table) -> tuple[int, int, dict[str, int]]:
    """Return the number of scored rows, of rejected rows, and of rejected rows by reason."""
    scored = pc.sum(pc.equal(rows["status"], str(Status.SCORED))).as_py() or 0
    counts = rows["reason"].drop_null().value_counts().to_pylist()
    reasons = {entry["values"]: entry["counts"] for entry in counts}
    return scored, rows.num_rows - scored, dict(sorted(reasons.items()))
