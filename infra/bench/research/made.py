"""Synthetic photos for benchmarks of face detectors: real faces in real scenes, with known boxes.

Heads come from portraits in scikit-image and matplotlib, and optionally from FER+; scenes from
scikit-image and scikit-learn. Everything depends on the seed alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import PIL.Image
import skimage
import sklearn.datasets
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SMALLEST, LARGEST = 0.04, 0.70
"""Range of a face's size: its box's side relative to the image's shorter side."""
MAX_ROTATION = 40.0

_SCIKIT_IMAGE = Path(skimage.__file__).parent / "data"
_SCENES = (
    *("coffee.png", "rocket.jpg", "motorcycle_left.png", "brick.png", "grass.png"),
    *("gravel.png", "page.png", "ihc.png", "hubble_deep_field.jpg", "chelsea.png"),
)
_SHAPES = ((480, 640), (640, 480), (512, 512), (450, 800), (720, 960))
_FEATHER = 0.12


@dataclass(frozen=True)
class Head:
    """A face with its surroundings.

    Attributes:
        kind: "head" (cut out of a portrait) or "fer" (a tight crop without a head around it).
        pixels, mask: (h, w, 3) uint8 RGB; (h, w) opacity, 0 to 1.
        box: left, top, side of the square from the brows' upper edge to the chin.
        landmarks: (4, 2) x and y of `blazeface.LANDMARKS`, or None if unknown.
    """

    kind: str
    pixels: Pixels
    mask: NDArray[np.float32]
    box: tuple[float, float, float]
    landmarks: NDArray[np.float64] | None


@dataclass(frozen=True)
class Truth:
    """A face in a synthetic photo.

    Attributes:
        kind: see Head.
        box: left, top, width, height in pixels; upright and square even if the face is rotated.
        size: the box's side relative to the image's shorter side.
        turned: degrees, counter-clockwise.
        landmarks: (4, 2) or None.
    """

    kind: str
    box: tuple[float, float, float, float]
    size: float
    turned: float
    landmarks: NDArray[np.float64] | None


@dataclass(frozen=True)
class Photo:
    """A synthetic photo; `hard` if its light, sharpness or faces were degraded."""

    pixels: Pixels
    faces: tuple[Truth, ...]
    hard: bool


def read(path: Path) -> Pixels:
    """Read a photo as RGB (h, w, 3) uint8."""
    return np.asarray(PIL.Image.open(path).convert("RGB"))


def portraits() -> list[Head]:
    """Return the two portraits of installed wheels, annotated by hand."""
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    astronaut = [(203, 101), (246, 104), (223, 128), (223, 145)]
    grace = [(223, 190), (305, 187), (265, 237), (268, 275)]
    return [
        _cut(read(_SCIKIT_IMAGE / "astronaut.png"), (228, 102, 82, 95), (173, 75, 103), astronaut),
        _cut(read(hopper), (263, 180, 118, 166), (167, 136, 197), grace),
    ]


def _cut(
    pixels: Pixels,
    ellipse: tuple[int, int, int, int],
    box: tuple[float, float, float],
    landmarks: list[tuple[int, int]],
) -> Head:
    """Cut the head inside an ellipse (x, y, half width, half height)."""
    x, y, half_width, half_height = ellipse
    left, top = max(0, x - half_width), max(0, y - half_height)
    part = pixels[top : y + half_height, left : x + half_width]
    mask = _ellipse(part.shape[0], part.shape[1], 2.0)
    moved = (box[0] - left, box[1] - top, box[2])
    return Head("head", part, mask, moved, np.array(landmarks, float) - (left, top))


def _ellipse(height: int, width: int, power: float) -> NDArray[np.float32]:
    """Return a feathered superellipse; power 2 is an ellipse, more nears a rectangle."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = np.abs(2 * (rows + 0.5) / height - 1), np.abs(2 * (columns + 0.5) / width - 1)
    radius = (x**power + y**power) ** (1 / power)
    return np.clip((1 - radius) / _FEATHER, 0, 1).astype(np.float32)


def fer_head(face: Pixels) -> Head:
    """Return a tight square crop (s, s) uint8 as a head whose box is the whole crop."""
    side = face.shape[0]
    return Head("fer", np.dstack([face] * 3), _ellipse(side, side, 6.0), (0.0, 0.0, side), None)


def scenes() -> list[Pixels]:
    """Return photos without a human face, including a cat."""
    names = sklearn.datasets.load_sample_images()
    return [read(_SCIKIT_IMAGE / name) for name in _SCENES] + list(names.images)


def make_photos(
    count: int, heads: list[Head], backgrounds: list[Pixels], seed: int
) -> Iterator[Photo]:
    """Yield photos with one to three faces, one in five without; every second one is hard."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        shape = _SHAPES[rng.integers(len(_SHAPES))]
        canvas = background(backgrounds[rng.integers(len(backgrounds))], rng, shape)
        hard = index % 2 == 1
        faces: list[Truth] = []
        for _ in range(0 if index % 5 == 4 else rng.integers(1, 4)):
            head = heads[rng.integers(len(heads))]
            size = math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))
            turned = rng.uniform(-MAX_ROTATION, MAX_ROTATION)
            _add(canvas, head, size, turned, faces, rng, hard)
        yield Photo(_spoil(canvas, rng) if hard else canvas, tuple(faces), hard)


def background(scene: Pixels, rng: np.random.Generator, shape: tuple[int, int]) -> Pixels:
    """Return a part of the scene, rotated by quarters, mirrored and scaled to (height, width)."""
    height, width = shape
    scene = np.rot90(scene, int(rng.integers(4)))[:, :: int(rng.choice((-1, 1)))]
    fit = min(scene.shape[0] / height, scene.shape[1] / width) * rng.uniform(0.5, 1)
    part_height, part_width = int(height * fit), int(width * fit)
    top = rng.integers(scene.shape[0] - part_height + 1)
    left = rng.integers(scene.shape[1] - part_width + 1)
    part = np.ascontiguousarray(scene[top : top + part_height, left : left + part_width])
    return np.asarray(cv2.resize(part, (width, height)), np.uint8)


def _add(
    canvas: Pixels,
    head: Head,
    size: float,
    turned: float,
    faces: list[Truth],
    rng: np.random.Generator,
    hard: bool,
) -> None:
    """Paste a head where its box is inside the canvas and overlaps no other, if possible."""
    height, width = canvas.shape[:2]
    side = size * min(height, width)
    for _ in range(20):
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        if all(_apart((left, top, side, side), face.box) for face in faces):
            faces.append(paste(canvas, head, (left, top, side), turned))
            if hard and rng.random() < 0.3:
                _cover(canvas, faces[-1], rng)
            return


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    gap = 0.6 * max(one[2], other[2])  # room for hair and hat
    return any(
        one[axis] > other[axis] + other[2 + axis] + gap
        or other[axis] > one[axis] + one[2 + axis] + gap
        for axis in (0, 1)
    )


def paste(canvas: Pixels, head: Head, box: tuple[float, float, float], turned: float) -> Truth:
    """Paste the head so that its box is at (left, top, side)."""
    left, top, side = box
    scale = side / head.box[2]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shape = (
        max(1, round(head.pixels.shape[1] * scale)),
        max(1, round(head.pixels.shape[0] * scale)),
    )
    pixels = cv2.resize(head.pixels, shape, interpolation=interpolation)
    mask = cv2.resize(head.mask, shape, interpolation=cv2.INTER_LINEAR)
    centre = (head.box[0] * scale + side / 2, head.box[1] * scale + side / 2)
    matrix = cv2.getRotationMatrix2D(centre, turned, 1.0)
    matrix[:, 2] += np.array([left + side / 2 - centre[0], top + side / 2 - centre[1]])
    into = (canvas.shape[1], canvas.shape[0])
    laid = cv2.warpAffine(pixels, matrix, into, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask, matrix, into)[..., None]
    canvas[:] = (laid * share + canvas * (1 - share)).round().astype(np.uint8)
    marked = head.landmarks
    if marked is not None:
        marked = marked * scale @ matrix[:, :2].T + matrix[:, 2]
    size = side / min(canvas.shape[:2])
    return Truth(head.kind, (left, top, side, side), size, turned, marked)


def _cover(canvas: Pixels, face: Truth, rng: np.random.Generator) -> None:
    """Cover up to a third of the face's box from one side with a plain patch."""
    left, top, side = (round(value) for value in face.box[:3])
    depth = round(side * rng.uniform(0.1, 0.33))
    where = rng.integers(3)  # chin, right or left; never the brow, which hair or a hat covers
    if where == 0:
        part = canvas[top + side - depth : top + side, left : left + side]
    else:
        from_left = left if where == 1 else left + side - depth
        part = canvas[top : top + side, from_left : from_left + depth]
    part[:] = rng.integers(0, 256, 3)


def _spoil(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Change light, colour and sharpness, add noise, and save as JPEG."""
    values = pixels.astype(np.float32) / 255
    values = values ** rng.uniform(0.6, 1.8)
    values = (values - 0.5) * rng.uniform(0.6, 1.3) + 0.5 + rng.uniform(-0.15, 0.15)
    values *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    ramp = np.linspace(rng.uniform(0.4, 1), rng.uniform(0.4, 1), values.shape[1])
    values *= ramp[None, :, None].astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, 1.5)))
    blurred = blurred + rng.normal(0, rng.uniform(0, 0.05), values.shape)
    file = io.BytesIO()
    spoilt = PIL.Image.fromarray((blurred.clip(0, 1) * 255).astype(np.uint8))
    spoilt.save(file, "JPEG", quality=int(rng.integers(35, 95)))
    return np.asarray(PIL.Image.open(file))
