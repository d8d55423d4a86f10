"""AffectNet: faces from the web with one label each (Mollahosseini et al., IEEE TAC 2017).

Expects the CSV release (`training.csv`, `validation.csv` and the images under
`Manually_Annotated_Images/`, or both in the folders that they come in) or the folder release
(`train_set/` and `val_set/`, each with `images/` and `annotations/<number>_exp.npy`).
data.label_space is affectnet7 (default) or affectnet8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from moodlake.emotions import LabelSpace, label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    ImageFile,
    images_in,
    one_hot,
    part_of,
    place_of,
    read_rows,
    require_files,
    whole_number,
)
from training.params import DataParams

_EXPRESSIONS = 11  # eight emotions, then none, uncertain and no face
_TABLES = {"training.csv": "train", "validation.csv": "valid"}
_SETS = {"train_set": "train", "val_set": "valid"}
_BOX = ("face_x", "face_y", "face_width", "face_height")
_NO_BOX = "no usable box of the face"
_Row = tuple[str, ImageFile, int, str]


def load(params: DataParams) -> Annotated:
    """Read the faces and labels; the validation set is the data set's own.

    Raises:
        DatasetError: a file is absent or a label is none.
    """
    space = label_space(params.label_space or "affectnet7")
    if not space.name.startswith("affectnet"):
        raise DatasetError(f"data.label_space={space.name} is not affectnet7 or affectnet8")
    place = place_of(params, "the folder of AffectNet")
    read = _read_sets if (place / "train_set").exists() else _read_tables
    dropped: Counter[str] = Counter()
    rows = list(read(place, space, dropped))
    return Annotated(
        space,
        FaceMode.LARGEST,
        [name for name, _, _, _ in rows],
        [image for _, image, _, _ in rows],
        one_hot([label for _, _, label, _ in rows], space),
        [split for _, _, _, split in rows],
        dict(dropped),
    )


def _dropped(space: LabelSpace) -> str:
    contempt = "" if "contempt" in space.emotions else "contempt, "
    return f"{contempt}none, uncertain or no face"


def _read_tables(place: Path, space: LabelSpace, dropped: Counter[str]) -> Iterator[_Row]:
    pictures = "Manually_Annotated_Images"
    folder = part_of(place, pictures, f"Manually_Annotated/{pictures}", "Manually_Annotated")
    for table, split in _TABLES.items():
        file = part_of(place, table, f"Manually_Annotated_file_lists/{table}")
        images = []
        for line, row in read_rows(file, ("subDirectory_filePath", *_BOX, "expression")).items():
            label = whole_number(file, line, "expression", row["expression"], _EXPRESSIONS)
            if label >= len(space):
                dropped[_dropped(space)] += 1
            elif (box := _box(file, line, row)) is None:
                dropped[_NO_BOX] += 1
            else:
                name = row["subDirectory_filePath"]
                images.append(ImageFile(folder / name, box))
                yield name, images[-1], label, split
        require_files(file, images)


def _box(file: Path, line: int, row: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom); None where the table holds NULL or a negative number."""
    if any(row[key] == "NULL" or row[key].startswith("-") for key in _BOX):
        return None
    left, top, width, height = (whole_number(file, line, key, row[key], 100_000) for key in _BOX)
    return left, top, left + width, top + height


def _read_sets(place: Path, space: LabelSpace, dropped: Counter[str]) -> Iterator[_Row]:
    for folder, split in _SETS.items():
        root = part_of(place, folder)
        annotations = part_of(root, "annotations")
        for image in images_in(part_of(root, "images")):
            file = annotations / f"{image.stem}_exp.npy"
            try:
                value = str(np.load(file, allow_pickle=False))
            except (OSError, ValueError, EOFError) as error:
                raise DatasetError(
                    f"{image} has no readable label {file}: {error}; copy the data set again"
                ) from error
            label = whole_number(file, 1, "expression", value, _EXPRESSIONS)
            if label < len(space):
                yield f"{folder}/{image.name}", ImageFile(image), label, split
            else:
                dropped[_dropped(space)] += 1
