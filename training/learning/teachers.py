"""Learn from other models besides people (distillation, Hinton et al., 2015)."""

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
    """The annotators' distributions blended with the mean of the teachers'.

    Args:
        target: (N, E) of the training split, in its order.
        recipe: names the teachers' archives, and the share that they have in the blend.
        space: of the target.

    Raises:
        ParamsError: an archive cannot be read, or is of other emotions.
    """
    if not recipe.teachers:
        return target
    said = np.mean([_distributions(Path(file), space) for file in recipe.teachers], axis=0)
    blend = (1 - recipe.teacher_share) * target + recipe.teacher_share * said
    return blend.astype(np.float32)


def _distributions(archive: Path, space: LabelSpace) -> NDArray[np.float32]:
    """What a teacher says (N, E) of the training images, not augmented."""
    try:
        teacher = Model.load(archive)
    except BundleError as error:
        raise ParamsError(f"train.teachers: {error}") from error
    if teacher.space.emotions != space.emotions:
        raise ParamsError(
            f"train.teachers: {archive} knows {', '.join(teacher.space.emotions)}, "
            f"the data set {', '.join(space.emotions)}"
        )
    images, _ = load_split("train", teacher.preprocessing)
    normalise = teacher.preprocessing.normalise
    return np.concatenate(
        [
            teacher.predict(normalise(images[start : start + _CHUNK]))
            for start in range(0, len(images), _CHUNK)
        ]
    )
