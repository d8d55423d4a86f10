"""Facts about the prepared samples: data set, label space, face mode and digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlake.emotions import LabelSpace
from moodlake.prediction import FaceMode
from training.paths import FACTS_FILE


@dataclass(frozen=True)
class Facts:
    """Facts about the data for later stages and the model's provenance.

    Attributes:
        name: the data set.
        space: its label space.
        faces: the face mode of a model trained on it.
        digest: SHA-256 over identities, splits, pixels and votes.
    """

    name: str
    space: LabelSpace
    faces: FaceMode
    digest: str


def read_facts(path: Path = FACTS_FILE) -> Facts:
    """Read the facts that the stage `prepare` wrote."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Facts(
        content["name"],
        LabelSpace.from_dict(content["label_space"]),
        FaceMode(content["faces"]),
        content["digest"],
    )
