"""Find faces in an image, and crop them the same way as in training.

The detector is `moodlake.inference.blazeface`; docs/decisions/face-detection.md gives the reasons.
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
_CROP_SIDE = 1.05  # as a multiple of the box's side
_CROP_CENTRE = 0.3  # as a share of the way from the eyes to the mouth
_FREE_TILT = 8.0  # degrees of tilt that are not corrected: training crops tilt as well
_DECIMALS = 1

DETECTOR: Mapping[str, Any] = {
    **IDENTITY,
    "short_side": SEARCHED_SIDE,
    "crop": {"side": _CROP_SIDE, "centre": _CROP_CENTRE, "free_tilt": _FREE_TILT},
}
"""Everything that determines where faces are found and how they are cropped."""


def find_faces(pixels: NDArray[np.uint8], scale: float = 1.0) -> list[Face]:
    """Return the faces of an RGB image (h, w, 3) uint8, largest first. Thread-safe.

    Args:
        pixels: the image.
        scale: how many pixels of the original correspond to one pixel of `pixels`; returned
            coordinates are in original pixels.
    """
    # Images and processes run in parallel; OpenCV's threads would compete with them.
    cv2.setNumThreads(1)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    found = zip(*detect(pixels), strict=True)
    faces = [_in_original(points * scale, float(score), size) for points, score in found]
    return sorted(faces, key=lambda face: -face.width * face.height)


def _in_original(points: NDArray[np.float64], score: float, size: tuple[int, int]) -> Face:
    """Convert one face from `detect`, an array (6, 2), to original pixels.

    Clips its box to the image, keeping at least one pixel.
    """
    limits = np.array(size)
    low = np.clip(np.rint(points[0] - points[1] / 2), 0, limits - 1).astype(int)
    high = np.clip(np.rint(points[0] + points[1] / 2), low + 1, limits).astype(int)
    (left, top), (width, height) = low.tolist(), (high - low).tolist()
    landmarks = {
        name: (round(x, _DECIMALS), round(y, _DECIMALS))
        for name, (x, y) in zip(LANDMARKS, points[2:].tolist(), strict=True)
    }
    return Face(left, top, width, height, round(score, 3), landmarks)


def crop(pixels: NDArray[np.uint8], face: Face, scale: float = 1.0) -> NDArray[np.uint8]:
    """Crop a face (s, s, 3), s >= 1, from an image decoded at 1/`scale` of the original.

    The crop frames the face as in the model's training. Tilt beyond _FREE_TILT degrees is removed.
    Where the crop extends beyond the image, border pixels are repeated.
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
