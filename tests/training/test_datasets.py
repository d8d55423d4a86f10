"""Each adapter on tiny files of the exact published format, and on what can be wrong with them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moodlake.emotions import label_space
from moodlake.faces import FaceMode
from moodlake.images import decode
from moodlake.settings import PROJECT_ROOT
from tests.images_made import encode, picture
from training.datasets import load_dataset
from training.datasets.base import Annotated, DatasetError, ImageFile
from training.datasets.emotion6 import read_annotations, without_neutral
from training.params import DataParams
from training.prepare import prepare

REAL_EMOTION6 = Path(
    os.environ.get("MOODLAKE_EMOTION6", PROJECT_ROOT / "../shared/data/emotion6/ground_truth.txt")
)


Made = Callable[[Path], Path]


def image(path: Path, seed: int = 0, width: int = 64, height: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture(seed, width, height), "JPEG"))


def load(name: str, path: Path, **options: object) -> Annotated:
    return load_dataset(DataParams(name, str(path), **options))  # type: ignore[arg-type]


def write_table(file: Path, header: list[str], rows: list[list[object]], tab: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, delimiter="\t" if tab else ",")
        writer.writerows([header, *rows])


EMOTION6_HEADER = [
    "[image_filename]",
    "[valence]",
    "[arousal]",
    *(f"[prob. {emotion}]" for emotion in label_space("emotion6").emotions),
]


def emotion6(folder: Path) -> Path:
    rows: list[list[object]] = [
        ["anger/1.jpg", 2.5, 6.0, 0.5, 0.1, 0.1, 0.0, 0.1, 0.0, 0.2],
        ["joy/1.jpg", 7.5, 4.0, 0.0, 0.0, 0.0, 0.666667, 0.0, 0.266667, 0.0666667],
        ["joy/2.jpg", 5.0, 2.0, 0, 0, 0, 0, 0, 0, 1],
    ]
    write_table(folder / "ground_truth.txt", EMOTION6_HEADER, rows, tab=True)
    for number, row in enumerate(rows):
        image(folder / "images" / str(row[0]), number)
    return folder


def fer2013(folder: Path) -> Path:
    pixels = " ".join(str(value % 256) for value in range(48 * 48))
    usages = ["Training", "Training", "PublicTest", "PrivateTest"]
    rows: list[list[object]] = [[number % 7, pixels, usage] for number, usage in enumerate(usages)]
    write_table(folder / "fer2013.csv", ["emotion", "pixels", "Usage"], rows)
    return folder


FERPLUS_VOTES = [
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
]


def ferplus(folder: Path) -> Path:
    fer2013(folder)
    rows: list[list[object]] = [
        ["Training", "fer0000000.png", 6, 3, 1, 0, 0, 0, 0, 0, 0, 0],
        ["Training", "", 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ["PublicTest", "fer0000002.png", 0, 0, 0, 5, 5, 0, 0, 0, 0, 0],
        ["PrivateTest", "fer0000003.png", 0, 9, 0, 0, 0, 0, 0, 0, 1, 0],
    ]
    write_table(folder / "fer2013new.csv", ["Usage", "Image name", *FERPLUS_VOTES], rows)
    return folder


AFFECTNET_HEADER = [
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
]


def affectnet_tables(folder: Path) -> Path:
    for table, labels in (("training", [0, 1, 7, 10]), ("validation", [6, 3])):
        rows: list[list[object]] = []
        for number, label in enumerate(labels):
            name = f"{number}/{table}{number}.jpg"
            image(folder / "Manually_Annotated_Images" / name, number)
            rows.append([name, 8, 4, 32, 40, "1;2;3", label, 0.1, 0.2])
        write_table(folder / f"{table}.csv", AFFECTNET_HEADER, rows)
    return folder


def affectnet_sets(folder: Path) -> Path:
    for name, labels in (("train_set", [0, 7, 5]), ("val_set", [2])):
        for number, label in enumerate(labels):
            image(folder / name / "images" / f"{number}.jpg", number)
            (folder / name / "annotations").mkdir(exist_ok=True)
            np.save(folder / name / "annotations" / f"{number}_exp.npy", str(label))
    return folder


def rafdb(folder: Path) -> Path:
    names = {"train_00001": 5, "train_00002": 7, "test_0001": 1}
    for number, name in enumerate(names):
        image(folder / "Image" / "aligned" / f"{name}_aligned.jpg", number, 100, 100)
    lines = "\n".join(f"{name}.jpg {label}" for name, label in names.items())
    (folder / "EmoLabel").mkdir()
    (folder / "EmoLabel" / "list_patition_label.txt").write_text(lines + "\n")
    return folder


def expw(folder: Path) -> Path:
    image(folder / "image" / "angry_people.jpg", 1, 200, 150)
    (folder / "label.lst").write_text(
        "angry_people.jpg 0 10 20 80 90 82.5 0\nangry_people.jpg 1 5 100 180 60 40.1 6\n"
    )
    return folder


def moods(folder: Path) -> Path:
    for label, mood in enumerate(("angry", "happy", "sad")):
        for number in range(4):
            image(folder / mood / f"{number}.jpg", 10 * label + number)
    return folder


def table(folder: Path) -> Path:
    for number in range(3):
        image(folder / "in" / f"{number}.jpg", number)
    rows: list[list[object]] = [
        ["in/0.jpg", 3, 0, 1, "train", "indoors"],
        ["in/1.jpg", 0, 5, 0, "train", "outdoors"],
        ["in/2.jpg", 1, 1, 2, "valid", "outdoors"],
    ]
    write_table(folder / "votes.csv", ["image", "joy", "calm", "fear", "split", "place"], rows)
    return folder / "votes.csv"


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
    assert data.dropped == {"contempt, none, uncertain or no face": 2}
    first = data.images[0]
    assert isinstance(first, ImageFile)
    assert first.box == (8, 4, 40, 44)
    eight = load("affectnet", tmp_path, label_space="affectnet8")
    assert len(eight.ids) == 5
    assert eight.dropped == {"none, uncertain or no face": 1}


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
    for image, distribution in zip(rows["image"], rows["distribution"], strict=True):
        assert decode(image).pixels.size
        assert distribution.sum() == pytest.approx(1)
    if data.splits is None and name == "folder":
        assert facts["rows"] == {"train": 9, "valid": 3}
    names = {key for key, _ in rows["slices"][0]}
    assert names == {"brightness", "contrast", "size", "like_a_training_image", *data.attributes}


def test_a_box_is_cut_out(tmp_path: Path) -> None:
    params = DataParams("expw", str(expw(tmp_path)))
    prepare(load_dataset(params), params, tmp_path / "s.parquet", tmp_path / "f.json")
    sizes = [
        decode(data).pixels.shape[:2] for data in pd.read_parquet(tmp_path / "s.parquet")["image"]
    ]
    assert sizes == [(80, 60), (55, 80)]


def swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


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
            "line 2.*not negative",
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
    ],
)
def test_what_is_wrong_is_named_with_file_and_row(
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
def test_an_unnamed_or_absent_place_is_told(name: str, tmp_path: Path) -> None:
    params = DataParams(name)
    with pytest.raises(DatasetError, match=r"data\.path"):
        load_dataset(params)
    with pytest.raises(DatasetError, match="is not there"):
        load_dataset(replace(params, path=str(tmp_path / "absent")))


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(DatasetError, match="'imagenet' is not one of drawn"):
        load_dataset(DataParams("imagenet"))
