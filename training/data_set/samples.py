"""Read the prepared samples: one Parquet file of images, votes and distributions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from moodlake.inference.decoding import decode
from moodlake.inference.preprocessing import Preprocessing
from training.paths import SAMPLES_FILE

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("image", pa.binary()),
        ("pixels_sha256", pa.string()),
        ("votes", pa.list_(pa.float64())),
        ("raw_votes", pa.list_(pa.float64())),
        ("distribution", pa.list_(pa.float64())),
        ("slices", pa.map_(pa.string(), pa.string())),
        ("measures", pa.map_(pa.string(), pa.float64())),
    ]
)


def load_split(
    split: str, preprocessing: Preprocessing, path: Path = SAMPLES_FILE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return images (N, channels, size, size) uint8 and distributions (N, E) float32 of a split.

    The code that serves decodes and resizes them; see moodlake.inference.decoding.
    """
    rows = _read(split, ["image", "distribution"], path)
    side = preprocessing.decoded_side
    files = (data.as_py() for data in rows["image"])
    images = [preprocessing.resize(decode(file, short_side=side).pixels) for file in files]
    return np.stack(images), np.array(rows["distribution"].to_pylist(), np.float32)


def load_sides(split: str, path: Path = SAMPLES_FILE) -> NDArray[np.int64]:
    """Return the shorter sides (N,), in pixels, of the images of a split."""
    files = _read(split, ["image"], path)["image"]
    return np.array([min(Image.open(io.BytesIO(data.as_py())).size) for data in files])


def load_targets(
    split: str, path: Path = SAMPLES_FILE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return distributions and votes, each (N, E), of a split."""
    rows = _read(split, ["distribution", "votes"], path)
    return np.array(rows["distribution"].to_pylist()), np.array(rows["votes"].to_pylist())


def load_raw_votes(split: str, path: Path = SAMPLES_FILE) -> NDArray[np.float64] | None:
    """Return votes (N, E) before outlier removal, or None where the data set removes none."""
    votes = _read(split, ["raw_votes"], path)["raw_votes"]
    return None if votes.null_count else np.array(votes.to_pylist())


def load_slices(split: str, path: Path = SAMPLES_FILE) -> dict[str, NDArray[np.str_]]:
    """Return, by name of the slice, the value (N,) of each row of a split."""
    rows = [dict(row) for row in _read(split, ["slices"], path)["slices"].to_pylist()]
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def _read(split: str, columns: list[str], path: Path) -> pa.Table:
    return pq.read_table(path, columns=columns, filters=pc.field("split") == split)
