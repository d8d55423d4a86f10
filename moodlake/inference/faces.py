"""Find faces in an image, and cut them out as the model learnt to see them.

The detector is `moodlake.inference.blazeface`; docs/decisions/face-detection.md says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moodlake.inference.blazeface import IDENTITY, detect
from moodlake.inference.crop import Square
from moodlake.inference.preprocessing import SEARCHED_SIDE
from moodlake.prediction import LANDMARKS, Face

# Chosen on FER+'s training faces; see docs/measurements.md.
_CROP_SIDE = 1.05  # of the box's
_CROP_CENTRE = 0.3  # of the way from the eyes to the mouth
_FREE_TILT = 8.0  # degrees that the model reads as they are: its training crops tilt as well
_DECIMALS = 1

DETECTOR: Mapping[str, Any] = {
    **IDENTITY,
    "short_side": SEARCHED_SIDE,
    "crop": {"side": _CROP_SIDE, "centre": _CROP_CENTRE, "free_tilt": _FREE_TILT},
}
"""All that decides where faces are found and how they are cut out."""


def find_faces(pixels: NDArray[np.uint8], scale: float = 1.0) -> list[Face]:
    """Faces of an RGB image (h, w, 3) uint8, largest first. Safe to call from many threads.

    Args:
        pixels: the image.
        scale: original pixels per pixel of `pixels`; places are given in original pixels.
    """
    # Parallelism is over images and processes; OpenCV's own threads would compete with it.
    cv2.setNumThreads(1)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    found = zip(*detect(pixels), strict=True)
    faces = [_in_original(places * scale, float(score), size) for places, score in found]
    return sorted(faces, key=lambda face: -face.width * face.height)


def _in_original(places: NDArray[np.float64], score: float, size: tuple[int, int]) -> Face:
    """A face (6, 2) of `detect` with a box of at least a pixel inside the image."""
    limits = np.array(size)
    low = np.clip(np.rint(places[0] - places[1] / 2), 0, limits - 1).astype(int)
    high = np.clip(np.rint(places[0] + places[1] / 2), low + 1, limits).astype(int)
    (left, top), (width, height) = low.tolist(), (high - low).tolist()
    landmarks = {
        name: (round(x, _DECIMALS), round(y, _DECIMALS))
        for name, (x, y) in zip(LANDMARKS, places[2:].tolist(), strict=True)
    }
    return Face(left, top, width, height, round(score, 3), landmarks)


def crop(pixels: NDArray[np.uint8], face: Face, scale: float = 1.0) -> NDArray[np.uint8]:
    """The face (s, s, 3) of an image decoded at 1/`scale` of the original; s is at least 1.

    The square frames a face as the model's training crops do. A face that tilts by more than a few
    degrees is turned back by the rest; beyond the image its border is repeated.
    """
    right, left, mouth = (
        np.array(face.landmarks[name]) / scale for name in ("right_eye", "left_eye", "mouth")
    )
    eyes = (right + left) / 2
    x, y = (eyes + _CROP_CENTRE * (mouth - eyes)).tolist()
    side = max(1.0, _CROP_SIDE * max(face.width, face.height) / scale)
    tilt = math.atan2(left[1] - right[1], left[0] - right[0])
    turn = math.copysign(max(0.0, abs(tilt) - math.radians(_FREE_TILT)), tilt)
    return Square(x, y, side, turn).cut(pixels, round(side))
