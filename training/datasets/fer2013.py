"""FER-2013: 35,887 faces, 48 x 48 grey, one label each (Goodfellow et al., ICONIP 2013).

Expects `fer2013.csv` (columns emotion, pixels, Usage), the folder layout (`train/angry/...`,
`test/angry/...`), or an .npz with `pixels`, `fer7` and `split`, as for FER+.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    one_hot,
    part_of,
    place_of,
    read_rows,
    whole_number,
)
from training.datasets.folder import read_classes
from training.datasets.npz import check_range, read_npz
from training.params import DataParams

SIDE = 48
USAGES = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}


def load(params: DataParams) -> Annotated:
    """Read the faces; their splits are the data set's own (a folder's `test` validates).

    Raises:
        DatasetError: a file is absent, or a row is damaged.
    """
    space = label_space("fer2013")
    place = place_of(params, "fer2013.csv, the folder layout, or an .npz")
    if place.suffix == ".npz":
        arrays = read_npz(place, ("pixels", "fer7", "split"))
        splits = ["valid" if split else "train" for split in arrays["split"]]
        pixels: list[NDArray[np.uint8]] = list(arrays["pixels"])
        check_range(place, "fer7", arrays["fer7"], len(space))
        labels = arrays["fer7"].astype(int).tolist()
    elif place.is_dir() and not (place / "fer2013.csv").exists():
        return read_classes(place, space, FaceMode.LARGEST, {"train": "train", "test": "valid"})
    else:
        file = part_of(place, "fer2013.csv") if place.is_dir() else place
        labels, pixels, splits = read_csv(file)
    ids = [f"fer2013-{index:05d}" for index in range(len(splits))]
    return Annotated(space, FaceMode.LARGEST, ids, pixels, one_hot(labels, space), splits)


def read_csv(file: Path) -> tuple[list[int], list[NDArray[np.uint8]], list[str]]:
    """Labels (N,), pixels (N, 48, 48) and splits (N,) of fer2013.csv.

    Raises:
        DatasetError: a row is damaged.
    """
    rows = read_rows(file, ("emotion", "pixels", "Usage"))
    classes = len(label_space("fer2013"))
    labels, pixels, splits = [], [], []
    for line, row in rows.items():
        labels.append(whole_number(file, line, "emotion", row["emotion"], classes))
        values = np.array(row["pixels"].split(), dtype=object)
        if len(values) != SIDE**2:
            raise DatasetError(
                f"{file}, line {line}: {len(values)} pixels, not {SIDE**2}; copy the file again"
            )
        try:
            pixels.append(values.astype(np.uint8).reshape(SIDE, SIDE))
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{file}, line {line}: a pixel is no byte: {error}") from error
        if row["Usage"] not in USAGES:
            raise DatasetError(
                f"{file}, line {line}: Usage is {row['Usage']!r}, not one of {', '.join(USAGES)}"
            )
        splits.append(USAGES[row["Usage"]])
    return labels, pixels, splits
