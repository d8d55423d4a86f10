"""Each adapter on tiny files of the exact published format."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.demo import photos
from moodlake.emotions import label_space, without_neutral
from moodlake.inference.decoding import decode
from moodlake.prediction import FaceMode
from moodlake.settings import PROJECT_ROOT
from tests.images_made import picture
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
from training.data_set.preparation import count_faces, prepare
from training.datasets import load_dataset
from training.datasets.base import DatasetError, ImageFile
from training.datasets.emotion6 import read_annotations
from training.params import DataParams

REAL_EMOTION6 = Path(
    os.environ.get("MOODLAKE_EMOTION6", PROJECT_ROOT / "../shared/data/emotion6/ground_truth.txt")
)


def test_emotion6_with_and_without_neutral(tmp_path: Path) -> None:
    data = load("emotion6", emotion6(tmp_path))
    assert data.space == label_space("emotion6")
    assert data.faces is FaceMode.NONE
    assert data.ids == ["anger/1.jpg", "joy/1.jpg", "joy/2.jpg"]
    assert data.splits is None
    assert data.attributes["valence"].tolist() == [2.5, 7.5, 5.0]  # type: ignore[union-attr]
    basic = load("emotion6", tmp_path, drop_neutral=True)
    assert basic.space.emotions == label_space("emotion6").emotions[:-1]
    assert basic.dropped == {"nothing but neutral": 1}
    assert basic.votes.sum(axis=1) == pytest.approx(1)
    assert basic.votes[0, 0] == pytest.approx(0.5 / 0.8)


@pytest.mark.skipif(
    not REAL_EMOTION6.exists(),
    reason="Emotion6's annotation file is absent; MOODLAKE_EMOTION6 names it",
)
def test_the_real_annotations_of_emotion6() -> None:
    names, votes, feelings = read_annotations(REAL_EMOTION6)
    assert len(set(names)) == 1980
    assert votes.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (votes.argmax(axis=1) == 6).sum() == 325  # neutral leads
    assert 1 <= feelings["valence"].min() <= feelings["valence"].max() <= 9
    _, basic = without_neutral(label_space("emotion6"), votes)
    assert basic.sum(axis=1) == pytest.approx(1)


def test_fer2013_keeps_its_own_splits(tmp_path: Path) -> None:
    data = load("fer2013", fer2013(tmp_path) / "fer2013.csv")
    assert data.splits == ["train", "train", "valid", "test"]
    assert data.votes.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert np.asarray(data.images[0])[0, :3].tolist() == [0, 1, 2]


def test_fer2013_as_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number, emotion in enumerate(label_space("fer2013").emotions):
            image(tmp_path / split / emotion / "a.jpg", number)
    data = load("fer2013", tmp_path)
    assert data.splits == ["train"] * 7 + ["valid"] * 7
    assert data.votes.argmax(axis=1).tolist() == [*range(7), *range(7)]


def test_fer2013_as_an_npz(tmp_path: Path) -> None:
    pixels = np.zeros((3, 48, 48), np.uint8)
    file = tmp_path / "f.npz"
    np.savez(file, pixels=pixels, fer7=np.array([6, 0, 3]), split=np.array([0, 0, 1]))
    data = load("fer2013", file)
    assert data.splits == ["train", "train", "valid"]
    assert [data.space.emotions[index] for index in data.votes.argmax(axis=1)] == [
        "neutral",
        "angry",
        "happy",
    ]


def test_ferplus_joins_votes_and_faces(tmp_path: Path) -> None:
    data = load("ferplus", ferplus(tmp_path))
    assert data.ids == ["ferplus-00000", "ferplus-00002", "ferplus-00003"]
    assert data.votes[0].tolist() == [6, 3, 0, 0, 0, 0, 0, 0]
    assert data.splits == ["train", "valid", "test"]
    assert data.dropped["no emotion with two votes"] == 1


def test_affectnet_tables_are_cropped_and_counted(tmp_path: Path) -> None:
    data = load("affectnet", affectnet_tables(tmp_path))
    assert data.space.name == "affectnet7"
    assert data.splits == ["train", "train", "valid", "valid"]
    boxless = {"no usable box of the face": 1}
    assert data.dropped == {"contempt, none, uncertain or no face": 2, **boxless}
    first = data.images[0]
    assert isinstance(first, ImageFile)
    assert first.box == (8, 4, 40, 44)
    eight = load("affectnet", tmp_path, label_space="affectnet8")
    assert len(eight.ids) == 5
    assert eight.dropped == {"none, uncertain or no face": 1, **boxless}
    for name in ("training.csv", "validation.csv", "Manually_Annotated_Images"):
        kind = "Manually_Annotated_file_lists" if name.endswith("csv") else "Manually_Annotated"
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / kind / name)
    assert load("affectnet", tmp_path).ids == data.ids


def test_affectnet_sets(tmp_path: Path) -> None:
    data = load("affectnet", affectnet_sets(tmp_path))
    assert data.ids == ["train_set/0.jpg", "train_set/2.jpg", "val_set/0.jpg"]
    assert [data.space.emotions[index] for index in data.votes.argmax(axis=1)] == [
        "neutral",
        "disgust",
        "sad",
    ]


def test_rafdb(tmp_path: Path) -> None:
    data = load("rafdb", rafdb(tmp_path))
    assert data.splits == ["train", "train", "valid"]
    assert [data.space.emotions[index] for index in data.votes.argmax(axis=1)] == [
        "sad",
        "neutral",
        "surprise",
    ]


def test_expw(tmp_path: Path) -> None:
    data = load("expw", expw(tmp_path))
    first = data.images[0]
    assert isinstance(first, ImageFile)
    assert first.box == (20, 10, 80, 90)
    assert data.ids == ["angry_people.jpg#0", "angry_people.jpg#1"]
    assert data.splits is None


def test_a_folder_for_each_mood(tmp_path: Path) -> None:
    data = load("folder", moods(tmp_path / "moods"))
    assert data.space.emotions == ("angry", "happy", "sad")
    assert data.votes.sum(axis=0).tolist() == [4, 4, 4]
    named = load("folder", tmp_path / "moods", label_space="mood3")
    assert named.space == label_space("mood3")
    for split in ("train", "val"):
        moods(tmp_path / "split" / split)
    assert set(load("folder", tmp_path / "split").splits or ()) == {"train", "valid"}


def test_a_table_of_any_emotions(tmp_path: Path) -> None:
    data = load("table", table(tmp_path), label_space="joy, calm, fear", faces="none")
    assert data.space.emotions == ("joy", "calm", "fear")
    assert data.faces is FaceMode.NONE
    assert data.splits == ["train", "train", "valid"]
    assert data.attributes == {"place": ["indoors", "outdoors", "outdoors"]}


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("emotion6", emotion6, {"drop_neutral": True}),
        ("fer2013", fer2013, {}),
        ("ferplus", ferplus, {}),
        ("affectnet", affectnet_tables, {}),
        ("affectnet", affectnet_sets, {}),
        ("rafdb", rafdb, {}),
        ("expw", expw, {}),
        ("folder", moods, {"valid_share": 0.25}),
        ("table", table, {"label_space": "joy,calm,fear"}),
    ],
)
def test_every_data_set_can_be_prepared(
    tmp_path: Path, name: str, make: Made, options: dict[str, object]
) -> None:
    params = DataParams(name, str(make(tmp_path / "source")), **options)  # type: ignore[arg-type]
    data = load_dataset(params)
    samples = tmp_path / "samples.parquet"
    facts = prepare(data, params, samples, tmp_path / "facts.json")
    rows = pd.read_parquet(samples)
    assert len(rows) == sum(facts["rows"].values()) > 0
    for data_of_image, distribution in zip(rows["image"], rows["distribution"], strict=True):
        assert decode(data_of_image).pixels.size
        assert distribution.sum() == pytest.approx(1)
    if data.splits is None and name == "folder":
        assert facts["rows"] == {"train": 9, "valid": 3}
    names = {key for key, _ in rows["slices"][0]}
    assert names == {"brightness", "contrast", "size", "like_a_training_image", *data.attributes}


def test_copies_stay_in_one_split_and_rows_are_sliced_by_brightness(tmp_path: Path) -> None:
    for mood in ("happy", "sad"):
        for number in range(10):
            shade = 1 if number else 0.2
            whole = picture(number + 10 * (mood == "sad"), 96, 72).point(lambda v, s=shade: v * s)
            (tmp_path / mood).mkdir(exist_ok=True)
            for copy, size in enumerate(((96, 72), (64, 48))):
                whole.resize(size).save(tmp_path / mood / f"{number}-{copy}.png")
    params = DataParams("folder", str(tmp_path), valid_share=0.4)
    prepare(load_dataset(params), params, tmp_path / "s.parquet", tmp_path / "f.json")
    rows = pd.read_parquet(tmp_path / "s.parquet")
    sides = rows.groupby(rows["id"].str.partition("-")[0])["split"]
    assert (sides.nunique() == 1).all()
    assert set(rows["split"]) == {"train", "valid"}
    light = {row.id: dict(row.slices)["brightness"] for row in rows.itertuples()}
    assert {light[name] for name in light if "/0-" in name} == {"low"}


def test_unusable_images_are_reported_together(tmp_path: Path) -> None:
    place = moods(tmp_path)
    first, second, *_ = sorted(place.rglob("*.*"))
    first.write_bytes(b"no image")
    second.write_bytes(b"")
    params = DataParams("folder", str(place))
    with pytest.raises(DatasetError, match=rf"2 of 12 .*{first.name}.*{second.name}.*replace"):
        prepare(load_dataset(params), params, tmp_path / "s.parquet", tmp_path / "f.json")


def test_images_with_a_detectable_face_are_counted() -> None:
    face = decode(photos()["photos/astronaut.png"]).pixels
    assert count_faces([face, np.full((80, 80, 3), 128, np.uint8), face[:, ::-1]], 0) == (2, 3)


def test_a_box_is_cut_out(tmp_path: Path) -> None:
    params = DataParams("expw", str(expw(tmp_path)))
    prepare(load_dataset(params), params, tmp_path / "s.parquet", tmp_path / "f.json")
    sizes = [
        decode(data).pixels.shape[:2] for data in pd.read_parquet(tmp_path / "s.parquet")["image"]
    ]
    assert sizes == [(80, 60), (55, 80)]
