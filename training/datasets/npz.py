"""Data sets that come as NumPy archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import DatasetError


def read_npz(
    path: Path, names: Sequence[str], aside: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays `names`, which must be equally long, and `aside`, which need not.

    Raises:
        DatasetError: the file is absent or damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = (*names, *aside)
            if missing := [name for name in wanted if name not in archive.files]:
                raise DatasetError(f"{path} lacks {missing}; see data/README.md for its content")
            arrays = {name: archive[name] for name in wanted}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as an .npz: {error}") from error
    if len({len(arrays[name]) for name in names}) != 1:
        raise DatasetError(f"{path}: {', '.join(names)} differ in length; copy it again")
    if "pixels" in names:
        pixels = arrays["pixels"]
        if pixels.ndim != 3 or pixels.dtype != np.uint8:
            raise DatasetError(
                f"{path}: pixels are {pixels.dtype} of shape {pixels.shape}; they must be grey "
                "images (N, height, width) of uint8"
            )
    if "split" in names:
        check_range(path, "split", arrays["split"], 2)
    return arrays


def check_range(path: Path, name: str, values: NDArray[Any], below: int) -> None:
    """Whole numbers from 0 up to and without `below`.

    Raises:
        DatasetError: a row has another.
    """
    wrong = (values < 0) | (values >= below) | (values != values.astype(np.int64))
    rows = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))
    if len(rows):
        raise DatasetError(
            f"{path}: {name} of row {rows[0]} is {values[rows[0]]}; it must be a whole number from "
            f"0 to {below - 1}"
        )
