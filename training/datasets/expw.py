"""ExpW: 106,962 photos from the web with boxes of faces (Zhang et al., IJCV 2018).

Expects a folder with `label.lst` (in it or in `label/`) and the photos in `image/` or `origin/`.
"""

from __future__ import annotations

import numpy as np

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    ImageFile,
    number,
    one_hot,
    part_of,
    place_of,
    read_lines,
    require_files,
    whole_number,
)
from training.params import DataParams

_FIELDS = 8
_LARGEST = 100_000


def load(params: DataParams) -> Annotated:
    """Read the boxes and labels; the data set has no split of its own.

    Raises:
        DatasetError: a file is absent or a row is damaged.
    """
    place = place_of(params, "the folder of ExpW")
    file = part_of(place, "label.lst", "label/label.lst")
    folder = part_of(place, "image", "origin")
    space = label_space("fer2013")  # the same emotions in the same order
    ids, images, labels, certainty = [], [], [], []
    for line, text in read_lines(file):
        fields = text.split()
        if len(fields) != _FIELDS:
            raise DatasetError(f"{file}, line {line}: {len(fields)} fields, not {_FIELDS}")
        name, face, *box, confidence, label = fields
        top, left, right, bottom = (
            whole_number(file, line, "the box", value, _LARGEST) for value in box
        )
        ids.append(f"{name}#{face}")
        images.append(ImageFile(folder / name, (left, top, right, bottom)))
        labels.append(whole_number(file, line, "the label", label, len(space)))
        certainty.append(number(file, line, "the confidence", confidence))
    require_files(file, images)
    return Annotated(
        space,
        FaceMode.LARGEST,
        ids,
        images,
        one_hot(labels, space),
        None,
        attributes={"detector_confidence": np.array(certainty)},
    )
