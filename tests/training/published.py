"""Tiny data sets in the exact formats that they are published in."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moodlake.emotions import label_space
from tests.images_made import encode, picture
from training.datasets import load_dataset
from training.datasets.base import Annotated
from training.params import DataParams

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
    for table, labels in (("training", [0, 1, 7, 10, 4]), ("validation", [6, 3])):
        rows: list[list[object]] = []
        for number, label in enumerate(labels):
            name = f"{number}/{table}{number}.jpg"
            box = (8, 4, 32, 40)
            if label == 10:  # no face: neither a box nor, perhaps, the image
                box = ("NULL", "NULL", "NULL", "NULL")
            else:
                image(folder / "Manually_Annotated_Images" / name, number)
            if label == 4:
                box = (-5, 4, 32, 40)
            rows.append([name, *box, "1;2;3", label, 0.1, 0.2])
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
