"""Compare face detectors on synthetic photos.

`python -m infra.bench.research.detectors [--ferplus NPZ]`

Prints, for each installed detector: the share of faces found, by size and rotation; false alarms;
landmark errors; and time per image. Then the share of images found that consist of a face.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import lfw_subset

from infra.bench.research.adapters import DETECTORS, Detector, Found
from infra.bench.research.made import Head, Photo, Truth, fer_head, make_photos, portraits, scenes

_SIZES = (0.04, 0.07, 0.10, 0.15, 0.30, 0.70)
_TURNS = (0, 10, 20, 30, 40)
_FOUND_FROM = 0.10
_FER_HEADS = 400
_SURE_VOTES = 6


@dataclass(frozen=True)
class Outcome:
    """The results of a detector.

    Attributes:
        faces: (N, 5) per true face: size, degrees of rotation, hard, from a portrait, found.
        off: mean distances of landmarks, relative to the distance of the eyes, where known.
        alarms: false alarms per photo.
        empty: whether a photo contains no face.
        seconds: seconds per photo.
    """

    faces: NDArray[np.float64]
    off: NDArray[np.float64]
    alarms: NDArray[np.int64]
    empty: NDArray[np.bool_]
    seconds: NDArray[np.float64]


def measure(detector: Detector, photos: Sequence[Photo]) -> Outcome:
    """Run a detector on the photos."""
    detector(photos[0].pixels)  # networks compile on the first image of a shape
    rows, off, alarms, seconds = [], [], [], []
    for photo in photos:
        start = time.perf_counter()
        found = detector(photo.pixels)
        seconds.append(time.perf_counter() - start)
        hits = match(found, photo.faces)
        alarms.append(len(found) - sum(hit is not None for hit in hits))
        for face, hit in zip(photo.faces, hits, strict=True):
            row = (face.size, abs(face.turned), photo.hard, face.kind == "head", hit is not None)
            rows.append(row)
            if hit is not None and hit.landmarks is not None and face.landmarks is not None:
                apart = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
                away = np.linalg.norm(hit.landmarks - face.landmarks, axis=1).mean()
                off.append(away / apart)
    empty = np.array([not photo.faces for photo in photos])
    return Outcome(np.array(rows, float), np.array(off), np.array(alarms), empty, np.array(seconds))


def match(found: Sequence[Found], faces: Sequence[Truth]) -> list[Found | None]:
    """Match detections to true faces, the most certain first.

    Detectors frame faces each in their own way, so that a box counts whose centre lies within
    0.4 sides of the true one's and whose side is half to twice the true one's.
    """
    hits: list[Found | None] = [None] * len(faces)
    for detection in sorted(found, key=lambda detection: -detection.score):
        left, top, width, height = detection.box
        side = max(0.0, width * height) ** 0.5
        for index, face in enumerate(faces):
            true = face.box[2]
            away = np.hypot(
                left + width / 2 - face.box[0] - true / 2, top + height / 2 - face.box[1] - true / 2
            )
            if hits[index] is None and away < 0.4 * true and 0.5 < side / true < 2:
                hits[index] = detection
                break
    return hits


def heads(ferplus: Path | None, seed: int) -> list[Head]:
    """Return the portraits, and as many training faces of FER+ that annotators agreed on."""
    cut = portraits()
    if ferplus is None:
        return cut
    arrays = np.load(ferplus)
    pixels, votes = arrays["pixels"], arrays["votes"]  # each access reads the file again
    emotions, others = votes[:, :8], votes[:, 8:]
    sure = (emotions.max(axis=1) >= _SURE_VOTES) & (others.sum(axis=1) == 0)
    rows = np.flatnonzero(sure & (arrays["split"] == 0))
    chosen = np.random.default_rng(seed).permutation(rows)[:_FER_HEADS]
    return cut * (len(chosen) // len(cut)) + [fer_head(pixels[row]) for row in chosen]


def table(outcomes: dict[str, Outcome]) -> str:
    """Return a Markdown table with a row per detector."""
    sizes = [f"{low:.0%}–{high:.0%}" for low, high in itertools.pairwise(_SIZES)]
    turns = [f"{low}–{high}°" for low, high in itertools.pairwise(_TURNS)]
    columns = ["detector", *sizes, *turns, *(f"{turn} plain" for turn in turns)]
    columns += ["whole heads", "alarms", "on empty", "landmarks", "ms"]
    rows = [columns, ["---"] * len(columns)]
    rows += [[name, *_cells(outcome)] for name, outcome in outcomes.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(outcome: Outcome) -> list[str]:
    size, turned, hard, head, _ = outcome.faces.T
    large = size >= _FOUND_FROM
    sizes = itertools.pairwise(_SIZES)
    masks = [(size >= low) & (size < high) for low, high in sizes]
    for wanted in (large, large & (hard == 0)):
        turns = itertools.pairwise(_TURNS)
        masks += [wanted & (turned >= low) & (turned < high) for low, high in turns]
    masks.append(large & (head == 1))
    return [
        *(f"{outcome.faces[mask, 4].mean():.2f}" if mask.any() else "" for mask in masks),
        f"{outcome.alarms.mean():.3f}",
        f"{outcome.alarms[outcome.empty].mean():.3f}",
        f"{outcome.off.mean():.1%}" if len(outcome.off) else "",
        f"{1000 * np.median(outcome.seconds):.1f}",
    ]


def tight_crops(pasted: Sequence[Head]) -> dict[str, list[NDArray[np.uint8]]]:
    """Return images filled by a face: crops of FER+, and 25 x 25 pixels of LFW (Labeled Faces).

    scikit-image's subset of the latter holds 100 faces, then 100 parts of photos without one.
    """
    grey = (lfw_subset() * 255).round().astype(np.uint8)
    wild = list(np.repeat(grey[..., None], 3, axis=-1))
    fer = [head.pixels for head in pasted if head.kind == "fer"]
    return {"FER+ crops": fer, "LFW faces": wild[:100], "LFW non-faces": wild[100:]}


def tight_table(detectors: dict[str, Detector], crops: dict[str, list[NDArray[np.uint8]]]) -> str:
    """Return a Markdown table of the share of images in which each detector finds a face."""
    rows = [["detector", *crops], ["---"] * (len(crops) + 1)]
    for name, detector in detectors.items():
        shares = [np.mean([bool(detector(crop)) for crop in part]) for part in crops.values()]
        rows.append([name, *(f"{share:.2f}" for share in shares)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _installed() -> dict[str, Detector]:
    ready = {}
    for name, make in DETECTORS.items():
        try:
            ready[name] = make()
        except ImportError as error:
            summary = (make.__doc__ or "").splitlines()[0]
            print(f"{name} skipped ({error}): {summary}")
    return ready


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ferplus", type=Path, help="FER+'s .npz, to paste its faces, too")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    pasted = heads(chosen.ferplus, chosen.seed)
    photos = list(make_photos(chosen.photos, pasted, scenes(), chosen.seed))
    print(f"{len(photos)} photos with {sum(len(photo.faces) for photo in photos)} faces")
    detectors = _installed()
    print(table({name: measure(detector, photos) for name, detector in detectors.items()}))
    crops = {name: part for name, part in tight_crops(pasted).items() if part}
    print(tight_table(detectors, crops))


if __name__ == "__main__":
    main()
