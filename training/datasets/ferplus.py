"""FER+: FER-2013's faces with the votes of ten annotators (Barsoum et al., ICMI 2016).

Expects one .npz with `pixels` (N, 48, 48) uint8, `votes` (N, 10) in the order of `vote_names`
(the eight emotions, then unknown and not-a-face) and `split` (0 train, 1 validation). The images
are for research use only, and no part of this project.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import label_space
from moodlake.faces import FaceMode
from training.datasets.base import Annotated, DatasetError
from training.params import DataParams

PATH_VARIABLE = "MOODLAKE_FERPLUS"
_ARRAYS = ("pixels", "votes", "split", "vote_names")
_OUTLIER_VOTES = 1


def load(params: DataParams) -> Annotated:
    """Read the file and apply the published protocol.

    Single votes are removed as slips; a row is dropped where no emotion keeps a vote, or where
    "unknown" or "not a face" have as many as the leading emotion (section 3 of the paper).

    Raises:
        DatasetError: the file is not named, absent, or lacks an array.
    """
    arrays = _read(_path(params))
    space = label_space("ferplus")
    votes = arrays["votes"].astype(np.int64)
    votes[votes <= _OUTLIER_VOTES] = 0
    emotions, others = votes[:, : len(space)], votes[:, len(space) :]
    leading = emotions.max(axis=1)
    unclear = (leading > 0) & (others.max(axis=1) >= leading)
    keep = (leading > 0) & ~unclear
    rows = np.flatnonzero(keep)
    return Annotated(
        space,
        FaceMode.LARGEST,
        [f"ferplus-{row:05d}" for row in rows],
        arrays["pixels"][keep],
        emotions[keep],
        ["valid" if split else "train" for split in arrays["split"][keep]],
        {
            "no emotion with two votes": int((leading == 0).sum()),
            "unknown or not a face": int(unclear.sum()),
        },
    )


def _path(params: DataParams) -> Path:
    named = params.path or os.environ.get(PATH_VARIABLE)
    if not named:
        raise DatasetError(
            f"FER+ does not ship with moodlake: set {PATH_VARIABLE} to its .npz, or run with "
            "-S data.path=FILE; data/README.md tells what the file holds"
        )
    return Path(named)


def _read(path: Path) -> dict[str, NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive.files]
            if missing:
                raise DatasetError(f"{path} lacks {missing}; data/README.md tells what it holds")
            arrays = {name: archive[name] for name in _ARRAYS}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as FER+'s .npz: {error}") from error
    expected = label_space("ferplus").emotions
    names = tuple(map(str, arrays["vote_names"]))
    if names[: len(expected)] != expected:
        raise DatasetError(f"{path}: votes are for {names}, not {expected} and two more")
    if len({len(arrays[name]) for name in ("pixels", "votes", "split")}) != 1:
        raise DatasetError(f"{path}: pixels, votes and split differ in length; copy it again")
    return arrays
