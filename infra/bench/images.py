"""Photos with a face, for measuring: shifted cuts of those that ship inside wheels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from infra.demo import photos

_SIZE = (400, 300)
_CUT = (440, 330)


def photos_with_faces(count: int) -> list[Image.Image]:
    """RGB images of 400 x 300 pixels, no two alike."""
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
    """The file."""
    buffer = io.BytesIO()
    image.save(buffer, format, quality=90)
    return buffer.getvalue()
