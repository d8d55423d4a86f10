"""A CSV of votes or probabilities over any label space.

Columns: `image` (a path, relative to the file), one for each emotion, perhaps `split` (train,
valid or test) and `id`; every other column slices the results. A row holds whole votes, or
probabilities.
"""

from __future__ import annotations

import numpy as np

from moodlake.emotions import LabelSpace, label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    ImageFile,
    check_sum,
    number,
    place_of,
    read_rows,
    require_files,
)
from training.params import DataParams

_RESERVED = ("id", "image", "split")
_SPLITS = ("train", "valid", "test")


def load(params: DataParams) -> Annotated:
    """Read the table; data.label_space names its emotions, by name or as a comma-separated list.

    Raises:
        DatasetError: a column or image is absent, or a row is damaged.
    """
    file = place_of(params, "a CSV with a column `image` and one for each emotion")
    space = _space(params)
    rows = read_rows(file, ("image", *space.emotions))
    votes = []
    for line, row in rows.items():
        values = [number(file, line, emotion, row[emotion]) for emotion in space.emotions]
        if not any(values):
            raise DatasetError(f"{file}, line {line}: no votes at all; take the row out")
        if any(value != int(value) for value in values):
            check_sum(file, line, values)
        votes.append(values)
        if row.get("split", "train") not in _SPLITS:
            raise DatasetError(
                f"{file}, line {line}: split is {row['split']!r}, not one of {_SPLITS}"
            )
    table = list(rows.values())
    images = [ImageFile(file.parent / row["image"]) for row in table]
    require_files(file, images)
    splits = [row["split"] for row in table] if "split" in table[0] else None
    others = [name for name in table[0] if name and name not in (*_RESERVED, *space.emotions)]
    return Annotated(
        space,
        FaceMode(params.faces),
        [row.get("id") or row["image"] for row in table],
        images,
        np.array(votes),
        splits,
        attributes={name: [row[name] for row in table] for name in others},
    )


def _space(params: DataParams) -> LabelSpace:
    if not params.label_space:
        raise DatasetError(
            "data.label_space must name the emotions of the table: a known space, or a list such "
            "as joy,fear,calm"
        )
    if "," in params.label_space:
        return LabelSpace("own", tuple(part.strip() for part in params.label_space.split(",")))
    return label_space(params.label_space)
