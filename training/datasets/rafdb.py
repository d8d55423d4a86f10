"""RAF-DB, basic emotions: 15,339 aligned faces (Li et al., CVPR 2017).

Expects the folder `basic/` with `EmoLabel/list_patition_label.txt` (so spelt) and
`Image/aligned/<name>_aligned.jpg`.
"""

from __future__ import annotations

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    ImageFile,
    one_hot,
    part_of,
    place_of,
    read_lines,
    require_files,
    whole_number,
)
from training.params import DataParams

_ORDER = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""Emotions of the labels 1 to 7, by their names in the fer2013 space."""


def load(params: DataParams) -> Annotated:
    """Read the faces; `train_` and `test_` in their names are the split.

    Raises:
        DatasetError: a file is absent or a row is damaged.
    """
    place = place_of(params, "RAF-DB's folder basic/")
    file = part_of(place, "EmoLabel/list_patition_label.txt", "list_patition_label.txt")
    folder = part_of(place, "Image/aligned", "aligned")
    space = label_space("fer2013")
    ids, images, labels, splits = [], [], [], []
    for line, text in read_lines(file):
        name, _, label = text.partition(" ")
        number = whole_number(file, line, "the label", label, len(_ORDER) + 1)
        if number == 0 or not name.startswith(("train_", "test_")):
            raise DatasetError(
                f"{file}, line {line}: {text!r} is not a name train_... or test_... and 1 to 7"
            )
        ids.append(name)
        images.append(ImageFile(folder / name.replace(".jpg", "_aligned.jpg")))
        labels.append(space.index(_ORDER[number - 1]))
        splits.append("train" if name.startswith("train_") else "valid")
    require_files(file, images)
    return Annotated(space, FaceMode.LARGEST, ids, images, one_hot(labels, space), splits)
