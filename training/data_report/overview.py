"""Describe a prepared data set in counts, histograms and example images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from moodlake.emotions import LabelSpace, entropy
from moodlake.inference.decoding import decode

_BINS = 24
_EXAMPLES = 12
_TILE = 72
_MOST_POINTS = 1000
_PLANE = ("valence", "arousal")


def overview(samples: pd.DataFrame, space: LabelSpace) -> dict[str, Any]:
    """Return counts and histograms by split.

    Args:
        samples: rows of the prepared file without images; see training.data_set.samples.
        space: the label space of the votes.

    Returns:
        `rows` and `leading` (emotion -> rows that it leads in) by split, `mean` (emotion -> mean
        share of the votes), `vote_entropy` in nats and `measures` as histograms, `alike` (number
        of held-out rows that are near-duplicates of a training image), and `plane`: valence,
        arousal and leading emotion of some rows, where the data set has them.
    """
    shares = np.array(samples["distribution"].tolist())
    leading = pd.Series([space.emotions[place] for place in shares.argmax(axis=1)])
    splits = samples["split"].reset_index(drop=True)
    counts = pd.crosstab(splits, leading).reindex(columns=space.emotions, fill_value=0)
    numbers = pd.DataFrame([dict(row) for row in samples["measures"]])
    others = samples[samples["split"] != "train"]
    alike = [dict(row).get("like_a_training_image") == "yes" for row in others["slices"]]
    return {
        "rows": splits.value_counts().sort_index().to_dict(),
        "leading": counts.to_dict("index"),
        "mean": dict(zip(space.emotions, shares.mean(axis=0).round(5).tolist(), strict=True)),
        "vote_entropy": _histogram(entropy(shares), splits, (0.0, float(np.log(len(space))))),
        "measures": {
            name: _histogram(values.to_numpy(), splits, (values.min(), values.max()))
            for name, values in numbers.items()
        },
        "alike": int(np.sum(alike)),
        "plane": _plane(numbers, leading),
    }


def _histogram(
    values: NDArray[np.floating], splits: pd.Series, span: tuple[float, float]
) -> dict[str, Any]:
    """Return equally spaced edges (_BINS + 1,) and the counts of each split between them."""
    edges = np.histogram_bin_edges(values, _BINS, span)
    counts = {
        str(split): np.histogram(values[splits == split], edges)[0].tolist()
        for split in sorted(splits.unique())
    }
    return {"edges": edges.round(5).tolist(), "counts": counts}


def _plane(numbers: pd.DataFrame, leading: pd.Series) -> list[tuple[float, float, str]]:
    """Return valence, arousal and leading emotion of evenly spaced rows."""
    if not set(_PLANE) <= set(numbers):
        return []
    step = -(-len(numbers) // _MOST_POINTS)
    rows = numbers.loc[::step, list(_PLANE)].round(3).assign(emotion=leading[::step])
    return list(rows.itertuples(index=False, name=None))


def examples(samples: pd.DataFrame, space: LabelSpace) -> Mapping[str, Image.Image]:
    """Return a strip of training images for each emotion, those with its largest share first."""
    trained = samples[samples["split"] == "train"]
    shares = np.array(trained["distribution"].tolist())
    strips = {}
    for place, emotion in enumerate(space.emotions):
        order = np.argsort(-shares[:, place], kind="stable")[:_EXAMPLES]
        strip = Image.new("RGB", (_TILE * _EXAMPLES, _TILE), "white")
        for position, row in enumerate(order):
            image = Image.fromarray(decode(trained["image"].iloc[row]).pixels)
            strip.paste(ImageOps.fit(image, (_TILE, _TILE)), (_TILE * position, 0))
        strips[emotion] = strip
    return strips
