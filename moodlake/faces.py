"""Find faces in an image.

The detector is OpenCV's frontal-face Haar cascade (Viola and Jones, CVPR 2001; the tree-based
"alt2"): FER-2013's own faces were cropped by a detector of this family, so its boxes frame a face
as the model learnt it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

DETECTION_SHORT_SIDE = 240
"""Pixels of the shorter side at which an image is searched: enough for a face of a tenth of it."""

_DETECTION_PIXELS = 400_000
_SMALLEST_FACE = 0.1
_CASCADE = "haarcascade_frontalface_alt2.xml"


class FaceMode(StrEnum):
    """Which part of an image is scored."""

    NONE = "none"
    """The whole image, as it is."""
    LARGEST = "largest"
    """The largest face."""
    ALL = "all"
    """Every face; the image's own distribution is that of the largest one."""


@dataclass(frozen=True)
class Face:
    """A box in pixels of the original image.

    Attributes:
        left, top, width, height: the box, inside the image.
        confidence: the cascade's level weight; higher is surer, no upper bound.
    """

    left: int
    top: int
    width: int
    height: int
    confidence: float


_local = threading.local()


def _cascade() -> cv2.CascadeClassifier:
    """This thread's own: detecting changes a cascade's state."""
    if not hasattr(_local, "cascade"):
        _local.cascade = _load_cascade()
    return _local.cascade


def _load_cascade() -> cv2.CascadeClassifier:
    # Parallelism is over images and processes; OpenCV's own threads would compete with it.
    cv2.setNumThreads(1)
    path = Path(cv2.__file__).parent / "data" / _CASCADE
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise RuntimeError(f"OpenCV could not read {path}; install opencv-python-headless 4.x")
    return cascade


def find_faces(pixels: NDArray[np.uint8], scale: float = 1.0) -> list[Face]:
    """Faces of an RGB image (h, w, 3) uint8, largest first.

    Args:
        pixels: the image.
        scale: original pixels per pixel of `pixels`; boxes are given in original pixels.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    # A panorama is shrunk further: the time to search goes with the area.
    by_area = (grey.size / _DETECTION_PIXELS) ** 0.5
    shrink = max(1.0, min(grey.shape) / DETECTION_SHORT_SIDE, by_area)
    if shrink > 1:
        size = (max(1, round(grey.shape[1] / shrink)), max(1, round(grey.shape[0] / shrink)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    smallest = max(20, round(_SMALLEST_FACE * min(grey.shape)))
    boxes, _, weights = _cascade().detectMultiScale3(
        cv2.equalizeHist(grey),
        scaleFactor=1.15,
        minNeighbors=5,
        minSize=(smallest, smallest),
        outputRejectLevels=True,
    )
    factor = shrink * scale
    limit_x, limit_y = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    faces = [
        _in_original(box, float(weight), factor, limit_x, limit_y)
        for box, weight in zip(boxes, weights, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.width * face.height)


def _in_original(
    box: Sequence[int], weight: float, factor: float, limit_x: int, limit_y: int
) -> Face:
    left, top = round(box[0] * factor), round(box[1] * factor)
    return Face(
        left,
        top,
        min(round(box[2] * factor), limit_x - left),
        min(round(box[3] * factor), limit_y - top),
        round(weight, 3),
    )


def crop(pixels: NDArray[np.uint8], face: Face, scale: float = 1.0) -> NDArray[np.uint8]:
    """The face's part of an image decoded at 1/`scale` of the original; at least one pixel."""
    left, top = int(face.left / scale), int(face.top / scale)
    right = max(left + 1, round((face.left + face.width) / scale))
    bottom = max(top + 1, round((face.top + face.height) / scale))
    return pixels[top:bottom, left:right]
