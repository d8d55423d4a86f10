"""Profile a model's predictions on validation images, as the reference for drift of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from moodlake.inference.bundle import META_FILE
from moodlake.inference.model import Model
from moodlake.profile import Profile
from training.data_set.samples import load_sides, load_split
from training.files import write_json
from training.paths import SAMPLES_FILE


def reference_of(model: Model, samples: Path = SAMPLES_FILE) -> Profile:
    """Return the profile of the validation split; on training rows a model is too confident.

    Rejected images are left out, because a data set holds selected images. Sizes are left out if
    all images have the same: that is how they were cropped, not what is usual.
    """
    images, _ = load_split("valid", model.preprocessing, samples)
    inputs, sides = model.preprocessing.normalise(images), load_sides("valid", samples)
    return Profile.of(
        model.space,
        model.predict(inputs),
        brightness=model.preprocessing.brightness(inputs),
        sizes=sides if len(np.unique(sides)) > 1 else (),
    )


def add_reference(bundle: Path, samples: Path = SAMPLES_FILE) -> Profile:
    """Write the reference into a bundle's model.json; the digest does not cover it."""
    profile = reference_of(Model.load(bundle), samples)
    file = bundle / META_FILE
    meta: dict[str, Any] = json.loads(file.read_text("utf-8"))
    write_json(file, meta | {"reference": profile.to_dict()})
    return profile
