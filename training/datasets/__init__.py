"""Data sets: one adapter a file, with a common interface.

An adapter is a function `load(params) -> Annotated` that reads the published files of one data
set and knows its label space, its splits and its rules for which rows to drop.
"""

from __future__ import annotations

from training.datasets import (
    affectnet,
    drawn,
    emotion6,
    expw,
    fer2013,
    ferplus,
    folder,
    rafdb,
    table,
)
from training.datasets.base import Annotated, DatasetError
from training.params import DataParams

_ADAPTERS = {
    "drawn": drawn.load,
    "emotion6": emotion6.load,
    "fer2013": fer2013.load,
    "ferplus": ferplus.load,
    "affectnet": affectnet.load,
    "rafdb": rafdb.load,
    "expw": expw.load,
    "folder": folder.load,
    "table": table.load,
}


def load_dataset(params: DataParams) -> Annotated:
    """Load the data set that `params.name` names.

    Raises:
        DatasetError: the data set is unknown, or its files are absent or damaged.
    """
    if params.name not in _ADAPTERS:
        raise DatasetError(f"data.name={params.name!r} is not one of {', '.join(_ADAPTERS)}")
    try:
        return _ADAPTERS[params.name](params)
    except ValueError as error:  # an unknown label space or face mode
        raise DatasetError(f"data: {error}") from error
