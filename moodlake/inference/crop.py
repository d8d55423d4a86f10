"""A square part of an image, turned and of any size: the input of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Square:
    """A square in an image. Points are x and y in pixels; the first pixel's centre is (0.5, 0.5).

    Attributes:
        x, y: its centre; may lie outside the image.
        side: its side in pixels, positive.
        turn: radians from the image's x axis to the square's, clockwise on the screen.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0

    def cut(self, pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """Return the square's content (size, size, 3), upright; the image's border is repeated.

        Args:
            pixels: the image (h, w, 3) uint8.
            size: the side of the result; a larger square is shrunk by area, without aliasing.
        """
        height, width = pixels.shape[:2]
        reach = self.side * (abs(math.cos(self.turn)) + abs(math.sin(self.turn))) / 2 + 2
        left, right = _clipped(self.x - reach, self.x + reach, width)
        top, bottom = _clipped(self.y - reach, self.y + reach, height)
        part = pixels[top:bottom, left:right]
        before = np.array(part.shape[1::-1])
        if self.side > size:
            after = np.maximum(1, np.rint(before * size / self.side)).astype(int)
            smaller = cv2.resize(part, after.tolist(), interpolation=cv2.INTER_AREA)
            part = np.asarray(smaller, np.uint8)
        shrunk = np.array(part.shape[1::-1]) / before
        into = self._matrix(size)
        into[:, 2] += into[:, :2] @ (left, top)
        into[:, :2] /= shrunk
        into[:, 2] += into[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV puts a pixel's centre at 0
        content = cv2.warpAffine(
            part, into, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(content, np.uint8)

    def back(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Convert points (N, 2) in the content of `cut(pixels, size)` to points in the image."""
        matrix = self._matrix(size)
        return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    def _matrix(self, size: int) -> NDArray[np.float64]:
        """Return the affine matrix (2, 3) from the image to the content."""
        scale = size / self.side
        cosine, sine = scale * math.cos(self.turn), scale * math.sin(self.turn)
        linear = np.array([[cosine, sine], [-sine, cosine]])
        return np.column_stack([linear, size / 2 - linear @ (self.x, self.y)])


def _clipped(low: float, high: float, length: int) -> tuple[int, int]:
    """Return the range of whole pixels that covers low to high in the image; at least one."""
    start = min(max(0, math.floor(low)), length - 1)
    return start, min(max(start + 1, math.ceil(high)), length)
