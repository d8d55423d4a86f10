"""The brightness of the part of an image that is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moodlake.inference.model import Model
from moodlake.inference.preprocessing import Preprocessing
from moodlake.prediction import FaceMode, Prediction
from tests.bundles import write_bundle
from tests.images_made import astronaut, encode

COLOUR = st.tuples(*[st.integers(0, 255)] * 3)


@given(COLOUR, st.integers(8, 40), st.floats(-1, 1), st.floats(0.01, 2))
def test_brightness_is_luma_for_grey_and_colour_inputs(
    colour: tuple[int, int, int], size: int, mean: float, std: float
) -> None:
    pixels = np.full((50, 60, 3), colour, np.uint8)
    luma = np.dot(colour, (0.299, 0.587, 0.114)) / 255
    for channels in (1, 3):
        preprocessing = Preprocessing(size, channels, mean, std)
        # A grey input has whole steps of 1/255.
        expected = pytest.approx(luma, abs=0.51 / 255 if channels == 1 else 1e-4)
        assert preprocessing.brightness(preprocessing(pixels)) == expected


def test_each_input_has_its_own_brightness() -> None:
    preprocessing = Preprocessing(16, 3)
    inputs = np.stack([preprocessing(np.full((9, 9, 3), grey, np.uint8)) for grey in (0, 51, 255)])
    assert preprocessing.brightness(inputs) == pytest.approx([0, 0.2, 1], abs=1e-5)


def test_brightness_is_that_of_the_scored_part(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path))
    files = [encode(Image.new("RGB", (40, 30), (grey,) * 3), "PNG") for grey in (0, 128, 255)]
    whole = model.score([*files, b"no image", astronaut()], faces=FaceMode.NONE)
    assert [item.brightness for item in whole[:3]] == pytest.approx([0, 128 / 255, 1], abs=1e-5)
    assert whole[3].brightness is None
    (face,) = model.score([astronaut()], faces=FaceMode.LARGEST)
    assert whole[4].brightness is not None
    assert face.brightness != pytest.approx(whole[4].brightness, abs=0.01)


def test_a_prediction_without_brightness_can_be_read(tmp_path: Path) -> None:
    (prediction,) = Model.load(write_bundle(tmp_path)).score([astronaut()])
    older = {name: value for name, value in prediction.to_dict().items() if name != "brightness"}
    assert Prediction.from_dict(older).brightness is None
    assert Prediction.from_dict(older).distribution == prediction.distribution
