"""FER+: FER-2013's faces with the votes of ten annotators (Barsoum et al., ICMI 2016).

Expects a folder with `fer2013new.csv` (the votes) and `fer2013.csv` (the faces), whose rows belong
together in their order; or one .npz with `pixels` (N, 48, 48) uint8, `votes` (N, 10) in the order
of `vote_names` (the eight emotions, then unknown and not-a-face) and `split` (0 train, 1
validation). The images are for research use only, and no part of this project.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    part_of,
    place_of,
    read_rows,
    whole_number,
)
from training.datasets.fer2013 import USAGES, read_csv
from training.datasets.npz import check_range, read_npz
from training.params import DataParams

PATH_VARIABLE = "MOODLAKE_FERPLUS"
_EXPECTS = f"FER+'s .npz or its folder ({PATH_VARIABLE} names it too)"
_VOTES = (*label_space("ferplus").emotions, "unknown", "NF")
_MOST_VOTES = 11
_OUTLIER_VOTES = 1


def load(params: DataParams) -> Annotated:
    """Read the files; drop outlier votes and images without a clear emotion.

    Single votes are removed as outliers, as the authors' code does (microsoft/FERPlus,
    src/ferplus.py). A row is dropped where no emotion keeps a vote, or where "unknown" or "not a
    face" have as many as the leading emotion. The authors also drop rows that people disagree on
    when they report accuracy; here these rows stay, as they have a distribution too.

    Raises:
        DatasetError: a file is not named, absent or damaged.
    """
    params = replace(params, path=params.path or os.environ.get(PATH_VARIABLE))
    place = place_of(params, _EXPECTS)
    pixels, raw, splits = _read_folder(place) if place.is_dir() else _read_npz(place)
    space = label_space("ferplus")
    votes = raw.astype(np.int64)
    votes[votes <= _OUTLIER_VOTES] = 0
    emotions, others = votes[:, : len(space)], votes[:, len(space) :]
    leading = emotions.max(axis=1)
    unclear = (leading > 0) & (others.max(axis=1) >= leading)
    rows = np.flatnonzero((leading > 0) & ~unclear).tolist()
    return Annotated(
        space,
        FaceMode.LARGEST,
        [f"ferplus-{row:05d}" for row in rows],
        [pixels[row] for row in rows],
        emotions[rows],
        [splits[row] for row in rows],
        {
            "no emotion with two votes": int((leading == 0).sum()),
            "unknown or not a face": int(unclear.sum()),
        },
        raw_votes=raw[rows, : len(space)],
    )


_Arrays = tuple[list[NDArray[np.uint8]], NDArray[np.integer], list[str]]


def _read_npz(path: Path) -> _Arrays:
    arrays = read_npz(path, ("pixels", "votes", "split"), ("vote_names",))
    names = tuple(map(str, arrays["vote_names"]))
    expected = label_space("ferplus").emotions
    if names[: len(expected)] != expected:
        raise DatasetError(f"{path}: votes are for {names}, not {expected} and two more")
    if arrays["votes"].shape[1:] != (len(_VOTES),):
        raise DatasetError(f"{path}: votes have the shape {arrays['votes'].shape}, not (N, 10)")
    check_range(path, "votes", arrays["votes"], _MOST_VOTES)
    splits = ["valid" if split else "train" for split in arrays["split"]]
    return list(arrays["pixels"]), arrays["votes"], splits


def _read_folder(place: Path) -> _Arrays:
    file = part_of(place, "fer2013new.csv")
    rows = read_rows(file, ("Usage", "Image name", *_VOTES))
    _, pixels, splits = read_csv(part_of(place, "fer2013.csv"))
    if len(rows) != len(pixels):
        raise DatasetError(
            f"{file} has {len(rows)} rows and fer2013.csv {len(pixels)}; they belong together row "
            "by row: copy both again"
        )
    votes = []
    for (line, row), split in zip(rows.items(), splits, strict=True):
        if USAGES.get(row["Usage"]) != split:
            raise DatasetError(
                f"{file}, line {line}: Usage is {row['Usage']!r}, but fer2013.csv has the row in "
                f"{split}; the files do not belong together"
            )
        votes.append([whole_number(file, line, name, row[name], _MOST_VOTES) for name in _VOTES])
    return pixels, np.array(votes), splits
