"""A folder for each class: happy/, sad/, angry/, or any; also under train/, valid/ and test/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moodlake.emotions import LabelSpace, label_space
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    DatasetError,
    ImageFile,
    images_in,
    one_hot,
    place_of,
)
from training.params import DataParams

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


def load(params: DataParams) -> Annotated:
    """Read the folders; their names are the emotions, unless data.label_space names a space.

    Raises:
        DatasetError: there are no class folders, one is empty, or one is not in the space.
    """
    expects = "a folder of folders, one for each emotion"
    place = place_of(params, expects)
    if not place.is_dir():
        raise DatasetError(f"{place} is a file; data.path must name {expects}")
    splits = {name: split for name, split in _SPLITS.items() if (place / name).is_dir()}
    if params.label_space:
        space = label_space(params.label_space)
    else:
        roots = [place / name for name in splits] or [place]
        names = sorted({path.name for root in roots for path in root.iterdir() if path.is_dir()})
        if len(names) < 2:
            raise DatasetError(
                f"{place} holds {names or 'no folders'}; one for each emotion is needed"
            )
        space = LabelSpace(place.resolve().name, tuple(names))
    return read_classes(place, space, FaceMode(params.faces), splits)


def read_classes(
    place: Path, space: LabelSpace, faces: FaceMode, splits: Mapping[str, str]
) -> Annotated:
    """Images of `place`/[split/]class/, with the class as their one vote.

    Args:
        splits: folder -> "train", "valid" or "test"; empty where the classes lie right in `place`.

    Raises:
        DatasetError: a class has no folder or no images, or a folder is no class.
    """
    images, labels, names = [], [], []
    for folder, split in splits.items() or [("", "")]:
        root = place / folder
        if not root.is_dir():
            raise DatasetError(f"{root} is not there; copy the data set again, whole")
        for found in sorted(path.name for path in root.iterdir() if path.is_dir()):
            if found not in space.emotions:
                raise DatasetError(
                    f"{root / found} is no emotion of {space.name}: {', '.join(space.emotions)}; "
                    "rename the folder or choose another data.label_space"
                )
        for label, emotion in enumerate(space.emotions):
            files = list(images_in(root / emotion)) if (root / emotion).is_dir() else []
            if not files:
                raise DatasetError(f"{root / emotion} holds no images; every emotion needs some")
            images += [ImageFile(file) for file in files]
            labels += [label] * len(files)
            names += [split] * len(files)
    return Annotated(
        space,
        faces,
        [str(image.path.relative_to(place)) for image in images],
        images,
        one_hot(labels, space),
        names if splits else None,
    )
