"""Turn an RGB crop into the model's input, in training and serving alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SEARCHED_SIDE = 240
"""Shorter side in pixels of an image in the face search: enough for faces a tenth as wide."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in a grey input (ITU-R BT.601)."""


@dataclass(frozen=True)
class Preprocessing:
    """The steps from a crop to the model's input; stored with the model.

    Attributes:
        size: side of the square input in pixels.
        channels: 1 (grey, ITU-R 601 luma) or 3 (RGB).
        mean, std: of pixel values on the scale 0 to 1; one number for all channels.

    Raises:
        ValueError: a size or std that is not positive, or channels other than 1 and 3.
    """

    size: int
    channels: int
    mean: float = 0.5
    std: float = 0.25

    def __post_init__(self) -> None:
        if self.size < 8 or self.channels not in (1, 3) or self.std <= 0:
            raise ValueError(f"size >= 8, channels 1 or 3 and std > 0 are needed, not {self}")

    @property
    def decoded_side(self) -> int:
        """Least shorter side in pixels to decode an image at."""
        return max(SEARCHED_SIDE, self.size)

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (h, w, 3) uint8 RGB of any size to (channels, size, size) uint8."""
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if self.channels == 1 else pixels
        if image.shape[:2] != (self.size, self.size):
            shrinks = min(image.shape[:2]) >= self.size
            interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = cv2.resize(image, (self.size, self.size), interpolation=interpolation)
        channels_last = image.reshape(self.size, self.size, self.channels)
        return np.ascontiguousarray(channels_last.transpose(2, 0, 1), dtype=np.uint8)

    def normalise(self, resized: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale (..., channels, size, size) uint8 to float32 by the model's mean and deviation."""
        scale = np.float32(1 / (255 * self.std))
        return resized.astype(np.float32) * scale - np.float32(self.mean / self.std)

    def denormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Invert `normalise`."""
        values = (normalised * np.float32(self.std) + np.float32(self.mean)) * np.float32(255)
        return np.rint(values).clip(0, 255).astype(np.uint8)

    def brightness(self, normalised: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean luma (ITU-R BT.601) of inputs, 0 black to 1 white.

        Args:
            normalised: (..., channels, size, size), the output of `normalise`.

        Returns:
            (...) float64.
        """
        channels = normalised.mean(axis=(-2, -1)).astype(np.float64) * self.std + self.mean
        return np.clip(channels @ np.array(_LUMA if self.channels == 3 else (1.0,)), 0, 1)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (h, w, 3) uint8 RGB into the model's input (channels, size, size) float32."""
        return self.normalise(self.resize(pixels))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)
