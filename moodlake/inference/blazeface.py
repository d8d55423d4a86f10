"""BlazeFace: boxes and landmarks of faces (Bazarevsky et al., 2019, arXiv:1907.05047).

It uses two of MediaPipe's networks, in the folder detector/. "back" searches the image for
candidates. "short range" then examines each candidate, enlarged and turned upright by its eyes,
rejects false ones and places the landmarks. Both networks are fully convolutional, so that their
input can have the shape of the image.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moodlake.inference.crop import Square
from moodlake.inference.openvino_config import on_cores

_FOLDER = Path(__file__).parent / "detector"
_SEARCH = "blazeface_back.tflite"
_LOOK = "blazeface_short_range.tflite"
_SHA256 = {
    _SEARCH: "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    _LOOK: "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
}
# (stride, anchors per cell) of the two output grids: the layout of MediaPipe's SSD anchors.
_GRIDS = {_SEARCH: ((16, 2), (32, 6)), _LOOK: ((8, 2), (16, 6))}

_USUAL_SHAPES = ((224, 224), (224, 288), (192, 288), (192, 352))  # for images up to 2.2:1
_SHAPES = (*_USUAL_SHAPES, (160, 480), (128, 768))
_MARGIN = 0.25
_MARGIN_SHAPE = (128, 128)
_FILLED_SIDE = 256
_FILLING = 0.4
_LOOK_SIDE = 64
_LOOK_REACH = 1.25
_MOST_OFF = 0.25
_CANDIDATE = 0.2
MOST_FACES = 32
"""Most faces of one image: only the candidates with the highest scores are examined."""
_CONFIDENT = 0.6
_OVERLAP = 0.3
_GREY = 127

Faces = NDArray[np.float64]
"""(N, 6, 2): x and y in pixels of the centre, (width, height), then the LANDMARKS."""
Scores = NDArray[np.float64]
"""(N,) scores from 0 to 1."""


IDENTITY: Mapping[str, Any] = {
    "name": "BlazeFace back, then short range",
    "files": _SHA256,
    "shapes": _SHAPES,
    "margin": (_MARGIN, *_MARGIN_SHAPE, _FILLED_SIDE, _FILLING),
    "look": (_LOOK_SIDE, _LOOK_REACH, _MOST_OFF),
    "candidates": (_CANDIDATE, MOST_FACES),
    "confident": _CONFIDENT,
    "overlap": _OVERLAP,
}
"""Everything that determines where faces are found: the networks and their parameters."""


def detect(pixels: NDArray[np.uint8]) -> tuple[Faces, Scores]:
    """Return the faces of an RGB image (h, w, 3) uint8 and their scores, highest score first.

    If the search finds none, a second one with a grey margin around the image looks for a face that
    fills it. Safe to call from threads.
    """
    found = _confirm(pixels, *search(pixels, _shape_for(*pixels.shape[:2])))
    if len(found[1]):
        return found
    return _detect_filling(pixels)


def _detect_filling(pixels: NDArray[np.uint8]) -> tuple[Faces, Scores]:
    """Return faces that fill the image, searched for with a grey margin around it."""
    shape = np.array(pixels.shape[:2])
    scale = min(1.0, _FILLED_SIDE / shape.max())
    height, width = np.maximum(1, np.rint(shape * scale)).astype(int).tolist()
    margin = math.ceil(_MARGIN * max(height, width))
    widened = np.full((height + 2 * margin, width + 2 * margin, 3), _GREY, np.uint8)
    widened[margin:-margin, margin:-margin] = cv2.resize(
        pixels, (width, height), interpolation=cv2.INTER_AREA
    )
    faces, scores = search(widened, _MARGIN_SHAPE)
    filling = faces[:, 1].max(axis=1) >= _FILLING * min(height, width)
    faces, scores = _confirm(widened, faces[filling], scores[filling])
    faces[:, _POINTS] -= margin
    return faces * (shape[1] / width, shape[0] / height), scores


_POINTS = [0, 2, 3, 4, 5]  # rows of a face that are points; row 1 is (width, height)


def _shape_for(height: int, width: int) -> tuple[int, int]:
    """Return the network's input shape (height, width) in which the image is largest."""
    shapes = {*_SHAPES, *(shape[::-1] for shape in _SHAPES)}
    return max(
        sorted(shapes, key=lambda shape: shape[0] * shape[1]),
        key=lambda shape: min(shape[0] / height, shape[1] / width),
    )


def search(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> tuple[Faces, Scores]:
    """Return candidates in the whole image, highest score first."""
    fitted, scale, offset = _letterbox(pixels, shape)
    faces, scores = merge(*_network(_SEARCH, shape)(fitted))
    faces[:, _POINTS] -= offset
    return faces[:MOST_FACES] / scale, scores[:MOST_FACES]


def _letterbox(
    pixels: NDArray[np.uint8], shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Return the image in a grey frame of `shape`, and its scale (x, y) and offset (x, y) there."""
    height, width = pixels.shape[:2]
    scale = min(shape[0] / height, shape[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (shape[1] - size[0]) // 2, (shape[0] - size[1]) // 2
    fitted = np.full((*shape, 3), _GREY, np.uint8)
    fitted[top : top + size[1], left : left + size[0]] = cv2.resize(
        pixels, size, interpolation=interpolation
    )
    return fitted, np.array((size[0] / width, size[1] / height)), np.array((left, top), float)


def _confirm(pixels: NDArray[np.uint8], faces: Faces, scores: Scores) -> tuple[Faces, Scores]:
    """Return the candidates that the second network confirms, with its boxes and landmarks."""
    found = [each for face in faces if (each := _examine(pixels, face)) is not None]
    confirmed = np.array([face for face, _ in found]).reshape(-1, 6, 2)
    return merge(confirmed, np.array([score for _, score in found]))


def _examine(
    pixels: NDArray[np.uint8], face: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Return the face (6, 2) in an upright square around a candidate (6, 2), and its score."""
    (x, y), side = face[0], _LOOK_REACH * float(face[1].max())
    square = Square(x, y, side, turn_of(face))
    faces, scores = merge(*_network(_LOOK, (_LOOK_SIDE,) * 2)(square.cut(pixels, _LOOK_SIDE)))
    off = np.abs(faces[:, 0] / _LOOK_SIDE - 0.5).max(axis=1)
    accepted = np.flatnonzero((off < _MOST_OFF) & (scores >= _CONFIDENT))
    if not len(accepted):
        return None
    best = faces[accepted[0]]
    in_image = square.back(best, _LOOK_SIDE)
    in_image[1] = best[1] * side / _LOOK_SIDE
    return in_image, float(scores[accepted[0]])


def turn_of(face: NDArray[np.float64]) -> float:
    """Return the angle in radians of the line from the right eye to the left one."""
    x, y = face[3] - face[2]
    return math.atan2(y, x)


def merge(faces: Faces, scores: Scores) -> tuple[Faces, Scores]:
    """Merge overlapping detections by MediaPipe's weighted non-maximum suppression.

    The detection with the highest score and those that overlap it become their mean, weighted by
    score; this repeats with the remaining ones. The result has the highest score first.
    """
    merged, kept = [], []
    remaining = np.argsort(-scores, kind="stable")
    while len(remaining):
        overlapping = _overlaps(faces[remaining[0]], faces[remaining]) > _OVERLAP
        overlapping[0] = True
        group = remaining[overlapping]
        merged.append(np.average(faces[group], axis=0, weights=scores[group]))
        kept.append(scores[remaining[0]])
        remaining = remaining[~overlapping]
    return np.array(merged).reshape(-1, 6, 2), np.array(kept)


def _overlaps(face: NDArray[np.float64], others: Faces) -> NDArray[np.float64]:
    """Return the intersection over union (N,) of one box with others."""
    low = np.maximum(face[0] - face[1] / 2, others[:, 0] - others[:, 1] / 2)
    high = np.minimum(face[0] + face[1] / 2, others[:, 0] + others[:, 1] / 2)
    both = np.clip(high - low, 0, None).prod(axis=1)
    return both / np.maximum(face[1].prod() + others[:, 1].prod(axis=1) - both, 1e-9)


class _Network:
    """One of the networks, compiled for one input shape. Safe to share between threads.

    Raises:
        RuntimeError: its file has changed.
    """

    def __init__(self, name: str, shape: tuple[int, int]) -> None:
        # Slow to import; commands that only name the face modes do without it.
        import openvino
        from openvino.preprocess import PrePostProcessor

        file = _FOLDER / name
        if hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256[name]:
            raise RuntimeError(f"{file} has the wrong SHA-256; install moodlake again")
        core = openvino.Core()
        model = core.read_model(file)
        model.reshape([1, *shape, 3])
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(openvino.Type.u8)
        steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(127.5).scale(127.5)
        self._compiled = core.compile_model(steps.build(), "CPU", on_cores(1))
        self._requests = threading.local()
        self._anchors = anchors(_GRIDS[name], shape)

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Faces, Scores]:
        """Return all candidates in an image (h, w, 3) uint8."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        outputs = self._requests.own.infer({0: pixels[None]})
        return decode(outputs["regressors"][0], outputs["classificators"][0, :, 0], self._anchors)


def anchors(grids: tuple[tuple[int, int], ...], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the centres (A, 2) of all anchors in pixels, in the order of the network's outputs.

    Args:
        grids: (stride in pixels, anchors per cell) of each grid.
        shape: height and width of the input, multiples of the strides.
    """
    centres = []
    for stride, repeats in grids:
        rows, columns = np.mgrid[0 : shape[0] // stride, 0 : shape[1] // stride]
        cells = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride
        centres.append(cells.repeat(repeats, axis=0))
    return np.concatenate(centres)


def decode(
    regressors: NDArray[np.float32], logits: NDArray[np.float32], anchors: NDArray[np.float64]
) -> tuple[Faces, Scores]:
    """Turn a network's outputs into faces; drops those below the score of a candidate.

    Args:
        regressors: (A, 16) pixels: the centre relative to the anchor, width and height, then six
            landmarks relative to the anchor; the last two, the ears, are ignored.
        logits: (A,) of the scores.
        anchors: (A, 2) centres of the anchors.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(float), -80, 80)))
    likely = np.flatnonzero(scores >= _CANDIDATE)
    faces = regressors[likely].astype(float).reshape(-1, 8, 2)[:, :6]
    faces[:, _POINTS] += anchors[likely, None]
    valid = (faces[:, 1] > 0).all(axis=1)
    return faces[valid], scores[likely][valid]


def warm_up() -> None:
    """Compile the networks for the usual input shapes.

    The first image of another shape waits for its network to be compiled.
    """
    _network(_LOOK, (_LOOK_SIDE,) * 2)
    _network(_SEARCH, _MARGIN_SHAPE)
    for shape in _USUAL_SHAPES:
        _network(_SEARCH, shape)
        _network(_SEARCH, shape[::-1])


_networks: dict[tuple[str, tuple[int, int]], _Network] = {}
_compiling: dict[tuple[str, tuple[int, int]], threading.Lock] = {}


def _network(name: str, shape: tuple[int, int]) -> _Network:
    """Return a network, compiled once per shape; other shapes do not wait for it."""
    key = (name, shape)
    if key not in _networks:
        with _compiling.setdefault(key, threading.Lock()):
            if key not in _networks:
                _networks[key] = _Network(name, shape)
    return _networks[key]
