"""Distil other models: blend their predictions with the votes (Hinton et al., 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace
from moodlake.inference.bundle import BundleError
from moodlake.inference.model import Model
from training.data_set.samples import load_split
from training.params import ParamsError, TrainParams

_CHUNK = 1024


def taught(
    target: NDArray[np.float32], recipe: TrainParams, space: LabelSpace
) -> NDArray[np.float32]:
    """Blend the votes' distributions with the mean prediction of the teachers.

    Args:
        target: (N, E) of the training split, in its order.
        recipe: the teachers' archives and their share of the blend.
        space: label space of the target.

    Raises:
        ParamsError: an archive cannot be read, or has other emotions.
    """
    if not recipe.teachers:
        return target
    predicted = np.mean([_distributions(Path(file), space) for file in recipe.teachers], axis=0)
    blend = (1 - recipe.teacher_share) * target + recipe.teacher_share * predicted
    return blend.astype(np.float32)


def _distributions(archive: Path, space: LabelSpace) -> NDArray[np.float32]:
    """Predict the training images, not augmented, with a teacher; returns (N, E)."""
    try:
        teacher = Model.load(archive)
    except BundleError as error:
        raise ParamsError(f"train.teachers: {error}") from error
    if teacher.space.emotions != space.emotions:
        raise ParamsError(
            f"train.teachers: {archive} predicts {', '.join(teacher.space.emotions)}, "
            f"but the data set has {', '.join(space.emotions)}"
        )
    images, _ = load_split("train", teacher.preprocessing)
    normalise = teacher.preprocessing.normalise
    return np.concatenate(
        [
            teacher.predict(normalise(images[start : start + _CHUNK]))
            for start in range(0, len(images), _CHUNK)
        ]
    )
