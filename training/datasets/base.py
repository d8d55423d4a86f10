"""What every data set adapter returns, and what they share."""

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
    """A data set that cannot be used; the message names the file, the row and the cure."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, and the part of it that counts: (left, top, right, bottom) in pixels."""

    path: Path
    box: tuple[int, int, int, int] | None = None


Image = NDArray[np.uint8] | ImageFile
"""Grey (h, w) or RGB (h, w, 3) pixels, or where they are."""


@dataclass(frozen=True)
class Annotated:
    """Images with the votes of their annotators.

    Attributes:
        space: the label space of the votes.
        faces: which part of a new image a model of this data reads: FaceMode.LARGEST where the
            images are face crops.
        ids: (N,) unique names, for messages.
        images: (N,).
        votes: (N, E) counts, those of outliers removed, or probabilities; no row without any.
        splits: (N,) "train", "valid" or "test"; None where the data set has no split of its own.
        dropped: how many rows were left out, by reason.
        attributes: columns (N,) to slice results by: words, or numbers that are cut into thirds.
        raw_votes: (N, E) the counts before outliers were removed; None where none were.
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
    """One vote (N, E) for each label, an index into `space`."""
    return np.eye(len(space), dtype=np.int64)[np.asarray(labels, int)]


def place_of(params: DataParams, expects: str) -> Path:
    """The file or folder that data.path names.

    Raises:
        DatasetError: it is not named, or not there; `expects` says what it should be.
    """
    if not params.path:
        raise DatasetError(
            f"{params.name} does not ship with moodlake: run with -S data.path=PLACE, {expects}; "
            "data/README.md tells where to get it"
        )
    place = Path(params.path)
    if not place.exists():
        raise DatasetError(f"{place} is not there; data.path must name {expects}")
    return place


def part_of(place: Path, *names: str) -> Path:
    """The first of `names` that is in the folder `place`.

    Raises:
        DatasetError: none is.
    """
    for name in names:
        if (place / name).exists():
            return place / name
    raise DatasetError(
        f"{place} holds no {' or '.join(names)}; copy the data set again, whole, or check data.path"
    )


def read_rows(
    file: Path, columns: Sequence[str], delimiter: str = ","
) -> dict[int, dict[str, str]]:
    """The rows of a table with a header, by their line as an editor counts.

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
    """The lines of a text that are not blank, with their numbers from 1.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read as text: {error}; copy it again") from error
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def number(file: Path, row: int, name: str, text: Any) -> float:
    """A number of an annotation file.

    Args:
        row: of the file, as an editor counts lines.

    Raises:
        DatasetError: it is none, or negative.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value) or value < 0:
        raise DatasetError(
            f"{file}, line {row}: {name} is {text!r}; it must be a number that is not negative"
        )
    return value


def whole_number(file: Path, row: int, name: str, text: Any, below: int) -> int:
    """A class number from 0 up to and without `below`.

    Raises:
        DatasetError: it is another.
    """
    value = number(file, row, name, text)
    if value != int(value) or value >= below:
        raise DatasetError(
            f"{file}, line {row}: {name} is {text!r}; it must be a whole number below {below}"
        )
    return int(value)


def check_sum(file: Path, row: int, values: Sequence[float]) -> None:
    """Probabilities must sum to 1, but for SUM_TOLERANCE.

    Raises:
        DatasetError: they do not.
    """
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        raise DatasetError(
            f"{file}, line {row}: the probabilities sum to {sum(values):.4f}, not to 1; "
            "correct the row or take it out"
        )


def require_files(file: Path, images: Sequence[ImageFile]) -> None:
    """Every image that `file` names must be there.

    Raises:
        DatasetError: some are not; a few are named.
    """
    missing = [str(image.path) for image in images if not image.path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(images)} images that {file} names are not there: "
            f"{few_of(missing)}; copy the images again, or take their rows out"
        )


def few_of(names: Sequence[str]) -> str:
    """The first of `names`, for a message."""
    return f"{', '.join(names[:_MOST_EXAMPLES])}{', ...' if len(names) > _MOST_EXAMPLES else ''}"


def images_in(folder: Path) -> Iterator[Path]:
    """The images right in a folder, in name order."""
    yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
