"""The result of every data set adapter, and helpers for reading its files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import SUM_TOLERANCE, LabelSpace
from moodlake.errors import UserError
from moodlake.prediction import FaceMode
from training.params import DataParams

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_MOST_EXAMPLES = 5


class DatasetError(UserError):
    """A data set cannot be used; the message names the file, the row and the fix."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, and the box to use: (left, top, right, bottom) in pixels; None: all."""

    path: Path
    box: tuple[int, int, int, int] | None = None


Image = NDArray[np.uint8] | ImageFile
"""Grey (h, w) or RGB (h, w, 3) pixels, or a file."""


@dataclass(frozen=True)
class Annotated:
    """Images with the votes of their annotators.

    Attributes:
        space: the label space of the votes.
        faces: face mode of a model trained on this data: FaceMode.LARGEST if the images are face
            crops.
        ids: (N,) unique names, for messages.
        images: (N,).
        votes: (N, E) counts without outliers, or probabilities; no row is all zero.
        splits: (N,) "train", "valid" or "test"; None where the data set has no split.
        dropped: how many rows were left out, by reason.
        attributes: columns (N,) to slice results by: text, or numbers, which are cut into thirds.
        raw_votes: (N, E) counts before outlier removal; None where none were removed.
    """

    space: LabelSpace
    faces: FaceMode
    ids: list[str]
    images: Sequence[Image]
    votes: NDArray[np.floating] | NDArray[np.integer]
    splits: list[str] | None
    dropped: dict[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[str] | NDArray[np.floating]] = field(default_factory=dict)
    raw_votes: NDArray[np.integer] | None = None


def one_hot(labels: Sequence[int], space: LabelSpace) -> NDArray[np.int64]:
    """Return one vote (N, E) for each label, an index into `space`."""
    return np.eye(len(space), dtype=np.int64)[np.asarray(labels, int)]


def place_of(params: DataParams, expects: str) -> Path:
    """Return the file or folder that data.path names.

    Raises:
        DatasetError: it is missing; the message includes `expects`.
    """
    if not params.path:
        raise DatasetError(
            f"{params.name} is not part of moodlake: run with -S data.path=PATH, {expects}; "
            "see data/README.md for where to get it"
        )
    place = Path(params.path)
    if not place.exists():
        raise DatasetError(f"{place} does not exist; data.path must name {expects}")
    return place


def part_of(place: Path, *names: str) -> Path:
    """Return the first of `names` that exists in the folder `place`.

    Raises:
        DatasetError: none exists.
    """
    for name in names:
        if (place / name).exists():
            return place / name
    raise DatasetError(
        f"{place} holds no {' or '.join(names)}; copy all of the data set again, or check data.path"
    )


def read_rows(
    file: Path, columns: Sequence[str], delimiter: str = ","
) -> dict[int, dict[str, str]]:
    """Return the rows of a table with a header, by line number.

    Raises:
        DatasetError: it cannot be read, lacks one of `columns`, or a row has too few or too many
            cells.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, delimiter=delimiter)
            rows = {}
            for row in reader:
                rows[reader.line_num] = row
            header = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} cannot be read as a table: {error}") from error
    if missing := [name for name in columns if name not in header]:
        raise DatasetError(f"{file} lacks the columns {missing}; it has {list(header)}")
    if not rows:
        raise DatasetError(f"{file} has a header but no rows; copy it again")
    for line, row in rows.items():
        if None in row:
            raise DatasetError(
                f"{file}, line {line}: the row has more cells than the header; put cells that hold "
                f"a {delimiter!r} in quotes"
            )
        if None in row.values():
            raise DatasetError(f"{file}, line {line}: the row is cut short; copy the file again")
    return rows


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, with their numbers from 1.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read as text: {error}; copy it again") from error
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def number(file: Path, row: int, name: str, text: Any) -> float:
    """Parse a number of an annotation file.

    Args:
        row: line number in the file.

    Raises:
        DatasetError: it is no number, or negative.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value) or value < 0:
        raise DatasetError(
            f"{file}, line {row}: {name} is {text!r}; it must be a number of at least 0"
        )
    return value


def whole_number(file: Path, row: int, name: str, text: Any, below: int) -> int:
    """Parse a class number from 0 to `below` - 1.

    Raises:
        DatasetError: it is out of range.
    """
    value = number(file, row, name, text)
    if value != int(value) or value >= below:
        raise DatasetError(
            f"{file}, line {row}: {name} is {text!r}; it must be a whole number below {below}"
        )
    return int(value)


def check_sum(file: Path, row: int, values: Sequence[float]) -> None:
    """Check that probabilities sum to 1 within SUM_TOLERANCE.

    Raises:
        DatasetError: they do not.
    """
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        raise DatasetError(
            f"{file}, line {row}: the probabilities sum to {sum(values):.4f}, not to 1; "
            "correct the row or remove it"
        )


def require_files(file: Path, images: Sequence[ImageFile]) -> None:
    """Check that every image that `file` names exists.

    Raises:
        DatasetError: some do not; the message names a few.
    """
    missing = [str(image.path) for image in images if not image.path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(images)} images that {file} names do not exist: "
            f"{few_of(missing)}; copy the images again, or remove their rows"
        )


def few_of(names: Sequence[str]) -> str:
    """Join the first of `names` for a message."""
    return f"{', '.join(names[:_MOST_EXAMPLES])}{', ...' if len(names) > _MOST_EXAMPLES else ''}"


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the images directly in a folder, by name."""
    yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
