"""AffectNet: faces from the web with one label each (Mollahosseini et al., IEEE TAC 2017).

Expects the CSV release (`training.csv`, `validation.csv` and the images under
`Manually_Annotated_Images/`) or the folder release (`train_set/` and `val_set/`, each with
`images/` and `annotations/<number>_exp.npy`). data.label_space is affectnet7 (default) or
affectnet8.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moodlake.emotions import LabelSpace, label_space
from moodlake.faces import FaceMode
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
_Rows = list[tuple[str, ImageFile, int, str]]


def load(params: DataParams) -> Annotated:
    """Read the faces and labels; the validation set is the data set's own.

    Raises:
        DatasetError: a file is absent or a label is none.
    """
    space = label_space(params.label_space or "affectnet7")
    if not space.name.startswith("affectnet"):
        raise DatasetError(f"data.label_space={space.name} is not affectnet7 or affectnet8")
    place = place_of(params, "the folder of AffectNet")
    rows = _read_tables(place) if (place / "training.csv").exists() else _read_sets(place)
    kept = [row for row in rows if row[2] < len(space)]
    return Annotated(
        space,
        FaceMode.LARGEST,
        [name for name, _, _, _ in kept],
        [image for _, image, _, _ in kept],
        one_hot([label for _, _, label, _ in kept], space),
        [split for _, _, _, split in kept],
        {_dropped(space): len(rows) - len(kept)},
    )


def _dropped(space: LabelSpace) -> str:
    contempt = "" if "contempt" in space.emotions else "contempt, "
    return f"{contempt}none, uncertain or no face"


def _read_tables(place: Path) -> _Rows:
    found: _Rows = []
    folder = part_of(place, "Manually_Annotated_Images", "Manually_Annotated")
    for table, split in _TABLES.items():
        file = part_of(place, table)
        columns = ("subDirectory_filePath", *_BOX, "expression")
        start = len(found)
        for line, row in read_rows(file, columns).items():
            label = whole_number(file, line, "expression", row["expression"], _EXPRESSIONS)
            name = row["subDirectory_filePath"]
            left, top, width, height = (
                whole_number(file, line, key, row[key], 100_000) for key in _BOX
            )
            image = ImageFile(folder / name, (left, top, left + width, top + height))
            found.append((name, image, label, split))
        require_files(file, [image for _, image, _, _ in found[start:]])
    return found


def _read_sets(place: Path) -> _Rows:
    found: _Rows = []
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
            found.append((f"{folder}/{image.name}", ImageFile(image), label, split))
    return found
