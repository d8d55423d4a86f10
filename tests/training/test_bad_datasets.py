"""Errors in data sets name the file, the row and the fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moodlake.emotions import label_space
from tests.training.published import (
    Made,
    affectnet_sets,
    affectnet_tables,
    emotion6,
    expw,
    fer2013,
    ferplus,
    image,
    load,
    moods,
    rafdb,
    table,
)
from training.datasets import load_dataset
from training.datasets.base import DatasetError
from training.params import DataParams


def swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def cut(file: Path, line: int, left: str) -> None:
    """A copy that broke off."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[: line - 1], left or lines[line - 1][:3]]))


SPACE = {"label_space": "joy,calm,fear"}


@pytest.mark.parametrize(
    ("name", "make", "harm", "options", "message"),
    [
        ("emotion6", emotion6, lambda at: (at / "ground_truth.txt").unlink(), {}, "ground_truth"),
        ("emotion6", emotion6, lambda at: (at / "images/joy/1.jpg").unlink(), {}, r"joy/1\.jpg"),
        (
            "emotion6",
            emotion6,
            lambda at: swap(at / "ground_truth.txt", "0.666667", "0.9"),
            {},
            "line 3: the probabilities sum to 1.2333",
        ),
        (
            "emotion6",
            emotion6,
            lambda at: swap(at / "ground_truth.txt", "\t0.5\t", "\t-0.5\t"),
            {},
            "line 2.*of at least 0",
        ),
        (
            "fer2013",
            fer2013,
            lambda at: swap(at / "fer2013.csv", "0 1 2", "0 1"),
            {},
            "line 2: 2303 pixels",
        ),
        (
            "fer2013",
            fer2013,
            lambda at: swap(at / "fer2013.csv", "PublicTest", "Elsewhere"),
            {},
            "line 4: Usage is 'Elsewhere'",
        ),
        (
            "ferplus",
            ferplus,
            lambda at: swap(at / "fer2013new.csv", "PublicTest", "Training"),
            {},
            "line 4.*do not belong together",
        ),
        (
            "ferplus",
            ferplus,
            lambda at: swap(at / "fer2013new.csv", ",6,3,1", ",6,-3,1"),
            {},
            "line 2: happiness is '-3'",
        ),
        ("ferplus", ferplus, lambda at: (at / "fer2013.csv").unlink(), {}, "holds no fer2013.csv"),
        (
            "affectnet",
            affectnet_tables,
            lambda at: swap(at / "training.csv", "3,10,", "3,12,"),
            {},
            "line 5: expression is '12'",
        ),
        (
            "affectnet",
            affectnet_tables,
            lambda at: swap(at / "training.csv", "jpg,8,", "jpg,eight,"),
            {},
            "line 2: face_x is 'eight'",
        ),
        (
            "affectnet",
            affectnet_sets,
            lambda at: (at / "val_set/annotations/0_exp.npy").unlink(),
            {},
            "0_exp.npy",
        ),
        ("affectnet", affectnet_sets, lambda at: None, {"label_space": "mood3"}, "affectnet8"),
        (
            "rafdb",
            rafdb,
            lambda at: swap(at / "EmoLabel/list_patition_label.txt", "jpg 7", "jpg 9"),
            {},
            "line 2: the label is '9'",
        ),
        ("expw", expw, lambda at: swap(at / "label.lst", " 82.5", ""), {}, "line 1: 7 fields"),
        ("expw", expw, lambda at: (at / "label.lst").write_bytes(b"\xff"), {}, "as text"),
        (
            "fer2013",
            fer2013,
            lambda at: cut(at / "fer2013.csv", 5, "3"),
            {},
            "line 5: the row is cut short",
        ),
        (
            "affectnet",
            affectnet_sets,
            lambda at: (at / "val_set/annotations/0_exp.npy").write_bytes(b""),
            {},
            "0_exp.npy",
        ),
        ("folder", lambda at: image(at / "a.jpg") or at / "a.jpg", lambda at: None, {}, "a file"),
        ("table", table, lambda at: cut(at, 4, ""), SPACE, "cut short"),
        (
            "folder",
            moods,
            lambda at: [file.unlink() for file in (at / "sad").iterdir()],
            {},
            "sad holds no images",
        ),
        ("folder", moods, lambda at: None, {"label_space": "emotion6"}, "angry is no emotion"),
        ("table", table, lambda at: swap(at, ",0,5,0,", ",0,0,0,"), SPACE, "line 3: no votes"),
        ("table", table, lambda at: swap(at, ",0,5,0,", ",0,0.5,0.2,"), SPACE, "sum to 0.7000"),
        ("table", table, lambda at: swap(at, "valid", "holdout"), SPACE, "line 4: split"),
        (
            "table",
            table,
            lambda at: None,
            {"label_space": "joy,awe"},
            r"lacks the columns \['awe'\]",
        ),
        ("table", table, lambda at: None, {}, "label_space must name"),
        (
            "table",
            table,
            lambda at: swap(at, "valid", "valid,more"),
            SPACE,
            "line 4: .* more cells",
        ),
    ],
)
def test_an_error_names_file_and_row(
    tmp_path: Path,
    name: str,
    make: Made,
    harm: Callable[[Path], object],
    options: dict[str, object],
    message: str,
) -> None:
    place = make(tmp_path)
    harm(place)
    with pytest.raises(DatasetError, match=message):
        load(name, place, **options)


@pytest.mark.parametrize(
    "name", ["emotion6", "fer2013", "affectnet", "rafdb", "expw", "folder", "table"]
)
def test_an_unset_or_absent_path_is_reported(name: str, tmp_path: Path) -> None:
    params = DataParams(name)
    with pytest.raises(DatasetError, match=r"data\.path"):
        load_dataset(params)
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset(replace(params, path=str(tmp_path / "absent")))


@pytest.mark.parametrize(
    ("name", "array", "value", "message"),
    [
        ("fer2013", "fer7", -1, "fer7 of row 2 is -1; .* 0 to 6"),
        ("fer2013", "split", 2, "split of row 2 is 2; .* 0 to 1"),
        ("ferplus", "votes", -5, "votes of row 2 is .* 0 to 10"),
    ],
)
def test_wrong_numbers_in_an_npz_are_named(
    tmp_path: Path, name: str, array: str, value: int, message: str
) -> None:
    arrays = {
        "pixels": np.zeros((3, 48, 48), np.uint8),
        "fer7": np.zeros(3, np.int8),
        "votes": np.full((3, 10), 2, np.int8),
        "split": np.array([0, 1, 0], np.int8),
        "vote_names": np.array([*label_space("ferplus").emotions, "unknown", "NF"]),
    }
    arrays[array][2] = value
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        load(name, tmp_path / "f.npz")
    for pixels in (np.zeros((3, 48 * 48), np.uint8), np.zeros((3, 48, 48))):
        np.savez(tmp_path / "f.npz", **{**arrays, "pixels": pixels})
        with pytest.raises(DatasetError, match=r"pixels are .* must be grey images"):
            load(name, tmp_path / "f.npz")
    arrays["votes"] = arrays["votes"][:, :8]
    if name == "ferplus":
        np.savez(tmp_path / "f.npz", **arrays)
        with pytest.raises(DatasetError, match=r"\(3, 8\), not \(N, 10\)"):
            load(name, tmp_path / "f.npz")


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(DatasetError, match="'imagenet' is not one of drawn"):
        load_dataset(DataParams("imagenet"))
