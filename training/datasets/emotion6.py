"""Emotion6: 1,980 scenes with how 15 people each felt (Peng et al., CVPR 2015).

Expects a folder with `ground_truth.txt` and the images as it names them: `anger/1.jpg`, ..., right
in it or under `images/`. The annotators could also answer "neutral".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import label_space, without_neutral
from moodlake.prediction import FaceMode
from training.datasets.base import (
    Annotated,
    ImageFile,
    check_sum,
    number,
    part_of,
    place_of,
    read_rows,
    require_files,
)
from training.params import DataParams


def load(params: DataParams) -> Annotated:
    """Read the annotations; the images show whole scenes.

    Raises:
        DatasetError: a file, column or image is absent, or a row is no distribution.
    """
    place = place_of(params, "the folder of Emotion6")
    file = part_of(place, "ground_truth.txt")
    names, votes, feelings = read_annotations(file)
    folder = place / "images" if (place / "images").is_dir() else place
    images = [ImageFile(folder / name) for name in names]
    require_files(file, images)
    space = label_space("emotion6")
    if params.drop_neutral:
        space, votes = without_neutral(space, votes)
    kept = np.flatnonzero(votes.sum(axis=1) > 0)
    return Annotated(
        space,
        FaceMode.NONE,
        [names[index] for index in kept],
        [images[index] for index in kept],
        votes[kept],
        None,
        {"nothing but neutral": len(names) - len(kept)},
        {name: values[kept] for name, values in feelings.items()},
    )


def read_annotations(
    file: Path,
) -> tuple[list[str], NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Image names (N,), probabilities (N, 7), and valence and arousal (N,), 1 to 9.

    Raises:
        DatasetError: a column is absent or a row is no distribution.
    """
    space = label_space("emotion6")
    columns = [f"[prob. {emotion}]" for emotion in space.emotions]
    scales = ("valence", "arousal")
    wanted = ["[image_filename]", *(f"[{scale}]" for scale in scales), *columns]
    rows = read_rows(file, wanted, delimiter="\t")
    votes = []
    for line, row in rows.items():
        values = [number(file, line, column, row[column]) for column in columns]
        check_sum(file, line, values)
        votes.append(values)
    feelings = {
        scale: np.array(
            [number(file, line, scale, row[f"[{scale}]"]) for line, row in rows.items()]
        )
        for scale in scales
    }
    return [row["[image_filename]"] for row in rows.values()], np.array(votes), feelings
