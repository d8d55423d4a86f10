"""Output of the stage `overview`, for the web app."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moodlake.emotions import label_space
from training.data_report.overview import examples, overview
from training.data_set.preparation import prepare
from training.datasets import drawn, load_dataset
from training.params import DataParams

SPACE = label_space("ferplus")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("prepared")
    params = DataParams("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "_COUNTS", {"train": 160, "valid": 40})
        prepare(load_dataset(params), params, folder / "samples.parquet", folder / "facts.json")
    return pd.read_parquet(folder / "samples.parquet")


def test_counts_are_those_of_the_rows(samples: pd.DataFrame) -> None:
    found = overview(samples.drop(columns="image"), SPACE)
    assert found["rows"] == samples["split"].value_counts().to_dict()
    leading = samples["distribution"].map(lambda row: SPACE.emotions[int(np.argmax(row))])
    for split, counts in found["leading"].items():
        assert list(counts) == list(SPACE.emotions)
        assert {name: n for name, n in counts.items() if n} == leading[
            samples["split"] == split
        ].value_counts().to_dict()
    assert sum(found["mean"].values()) == pytest.approx(1, abs=1e-3)


def test_histograms_hold_every_row_once(samples: pd.DataFrame) -> None:
    found = overview(samples.drop(columns="image"), SPACE)
    assert {"brightness", "contrast", "size"} <= set(found["measures"])
    for histogram in (found["vote_entropy"], *found["measures"].values()):
        assert len(histogram["edges"]) == len(next(iter(histogram["counts"].values()))) + 1
        assert {split: sum(n) for split, n in histogram["counts"].items()} == found["rows"]
    light = [dict(row)["brightness"] for row in samples["measures"]]
    assert found["measures"]["brightness"]["edges"][0] == pytest.approx(min(light), abs=1e-4)
    assert found["measures"]["brightness"]["edges"][-1] == pytest.approx(max(light), abs=1e-4)


def test_the_plane_of_valence_and_arousal_is_there_if_the_data_set_has_them(
    samples: pd.DataFrame,
) -> None:
    assert overview(samples, SPACE)["plane"] == []
    rated = samples.assign(
        measures=[
            [*row, ("valence", number / 10), ("arousal", 9.0)]
            for number, row in enumerate(samples["measures"])
        ]
    )
    plane = overview(rated, SPACE)["plane"]
    assert len(plane) == len(samples)
    leading = SPACE.emotions[int(np.argmax(samples["distribution"].iloc[3]))]
    assert plane[3] == (0.3, 9.0, leading)


def test_examples_have_the_largest_share_of_their_emotion(
    samples: pd.DataFrame, tmp_path: Path
) -> None:
    strips = examples(samples, SPACE)
    assert list(strips) == list(SPACE.emotions)
    for strip in strips.values():
        assert strip.width == 12 * strip.height
        assert np.asarray(strip).std() > 10
