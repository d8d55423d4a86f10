"""Training and serving see the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodlake.inference.model import Model
from moodlake.prediction import FaceMode
from tests.bundles import SIZE, write_bundle
from tests.images_made import encode, picture, sixteen_bit_png
from training.data_set.samples import SCHEMA, load_split
from training.tools.explain import read_crop

FORMATS = st.sampled_from(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"))
SIDES = st.integers(SIZE // 2, 900)  # a JPEG of more than 480 is decoded at a smaller scale


@given(st.lists(st.tuples(FORMATS, SIDES, SIDES), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_a_file_is_read_for_training_as_it_is_read_for_scoring(
    tmp_path_factory: pytest.TempPathFactory, images: list[tuple[str, int, int]]
) -> None:
    files = [encode(picture(1, width, height), format) for format, width, height in images]
    compare([*files, sixteen_bit_png()], tmp_path_factory.mktemp("rows"))


def compare(files: list[bytes], folder: Path) -> None:
    model = Model.load(write_bundle(folder / "model"))
    rows = [{"split": "train", "image": file, "distribution": [1.0]} for file in files]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "samples.parquet")
    trained, _ = load_split("train", model.preprocessing, folder / "samples.parquet")
    served = [model.explain(file, faces=FaceMode.NONE).crop for file in files]
    assert np.array_equal(trained, np.stack(served))
    for file, inputs in zip(files, trained, strict=True):
        _, explained = read_crop(file, FaceMode.NONE, model.preprocessing)
        assert np.array_equal(explained[0], model.preprocessing.normalise(inputs))
