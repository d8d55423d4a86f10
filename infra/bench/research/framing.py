"""Measure what detection and cropping cost the model: python -m infra.bench.research.framing NPZ.

FER+'s validation faces are pasted into scenes, enlarged and rotated; the model scores the original
crop, the Haar cascade's box, and moodlake's crop. Prints the share of faces found and, of those,
accuracy and KL divergence.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.bench.research.adapters import Detector, haar
from infra.bench.research.made import Photo, background, fer_head, paste, scenes
from moodlake.emotions import from_votes
from moodlake.inference.faces import crop, find_faces
from moodlake.inference.model import Model
from training.datasets.ferplus import load
from training.params import DataParams

_TURNS = (0, 15, 30)
_SIDES = (96, 240)
_CANVAS = 480

Pixels = NDArray[np.uint8]


def faces_of(path: Path, split: str, count: int) -> tuple[list[Pixels], NDArray[np.float64]]:
    """Return FER+ faces (48, 48) and their distributions (N, 8), sampled with a fixed seed."""
    data = load(DataParams(name="ferplus", path=str(path)))
    assert data.splits is not None
    rows = [row for row, name in enumerate(data.splits) if name == split]
    drawn = np.random.default_rng(0).permutation(rows)[:count]
    return [np.asarray(data.images[row]) for row in drawn.tolist()], from_votes(data.votes[drawn])


def lay(face: Pixels, index: int, turned: float, backgrounds: Sequence[Pixels]) -> Photo:
    """Paste a face of 96 to 240 pixels, rotated, into a scene equal for all rotations."""
    rng = np.random.default_rng([1, index])
    side = rng.uniform(*_SIDES)
    scene = backgrounds[int(rng.integers(len(backgrounds)))]
    canvas = background(scene, rng, (_CANVAS, _CANVAS))
    left, top = rng.uniform(0, _CANVAS - side, 2)
    return Photo(canvas, (paste(canvas, fer_head(face), (left, top, side), turned),), False)


def cut_by_moodlake(photo: Photo) -> Pixels | None:
    """Return moodlake's crop of the pasted face, if it is found."""
    for face in find_faces(photo.pixels):
        if _is_there(photo, face.left, face.top, face.width):
            return crop(photo.pixels, face)
    return None


def cut_by(detector: Detector, photo: Photo) -> Pixels | None:
    """Return the detector's box of the pasted face, if it is found."""
    for found in detector(photo.pixels):
        left, top, width, height = (round(value) for value in found.box)
        if _is_there(photo, left, top, width):
            return photo.pixels[max(0, top) : top + height, max(0, left) : left + width]
    return None


def _is_there(photo: Photo, left: float, top: float, side: float) -> bool:
    x, y, true, _ = photo.faces[0].box
    away = np.hypot(left + side / 2 - x - true / 2, top + side / 2 - y - true / 2)
    return bool(away < 0.4 * true and 0.5 < side / true < 2)


def print_row(
    model: Model, name: str, crops: Sequence[Pixels | None], truth: NDArray[np.float64]
) -> None:
    """Print a table row: share found, and accuracy and KL of those."""
    rows = [row for row, part in enumerate(crops) if part is not None]
    if not rows:
        print(f"| {name} | 0 | | |")
        return
    inputs = [model.preprocessing(part) for part in crops if part is not None]
    read = model.predict(np.stack(inputs)).astype(float)
    wanted = truth[rows]
    right = (read.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    ratio = np.log(wanted.clip(1e-9)) - np.log(read.clip(1e-9))
    kl = (wanted * ratio).sum(axis=1).mean()
    print(f"| {name} | {len(rows) / len(crops):.3f} | {right:.3f} | {kl:.3f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument("--model", type=Path, default=Path("model_store/emotions.mar"))
    parser.add_argument("--split", choices=("train", "valid"), default="valid")
    parser.add_argument("--faces", type=int, default=1000)
    chosen = parser.parse_args()
    faces, truth = faces_of(chosen.ferplus, chosen.split, chosen.faces)
    model, cascade, backgrounds = Model.load(chosen.model), haar(), scenes()
    print("| crop | found | accuracy | KL |\n| --- | --- | --- | --- |")
    print_row(model, "as given", [np.dstack([face] * 3) for face in faces], truth)
    for turned in _TURNS:
        ours: list[Pixels | None] = []
        theirs: list[Pixels | None] = []
        for index, face in enumerate(faces):
            photo = lay(face, index, turned, backgrounds)
            ours.append(cut_by_moodlake(photo))
            theirs.append(cut_by(cascade, photo))
        print_row(model, f"Haar, {turned}°", theirs, truth)
        print_row(model, f"moodlake, {turned}°", ours, truth)
        both = [o if t is not None else None for o, t in zip(ours, theirs, strict=True)]
        print_row(model, f"moodlake, {turned}°, of those that Haar finds", both, truth)


if __name__ == "__main__":
    main()
