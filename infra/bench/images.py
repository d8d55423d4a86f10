"""Photos with a face for benchmarks: shifted crops of photos in installed wheels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from infra.demo import photos

_SIZE = (400, 300)
_CUT = (440, 330)


def photos_with_faces(count: int) -> list[Image.Image]:
    """Return distinct RGB images of 400 x 300 pixels."""
    rng = np.random.default_rng(0)
    sources = [
        Image.open(io.BytesIO(photos()[f"photos/{name}"])).convert("RGB")
        for name in ("astronaut.png", "grace_hopper.jpg")
    ]
    images = []
    for index in range(count):
        left, top = rng.integers(0, 60, 2).tolist()
        box = (left, top, left + _CUT[0], top + _CUT[1])
        images.append(sources[index % len(sources)].crop(box).resize(_SIZE))
    return images


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    """Encode an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, quality=90)
    return buffer.getvalue()
