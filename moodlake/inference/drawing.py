"""Draw the faces of an image into it, for people to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from moodlake.inference.decoding import decode
from moodlake.prediction import FacePrediction

_LINE = 1 / 250  # both as shares of the shorter side
_LABEL = 1 / 28
_LIGHT, _DARK = (255, 255, 255), (20, 20, 20)


def annotated(
    pixels: NDArray[np.uint8], faces: Sequence[FacePrediction], scale: float = 1.0
) -> Image.Image:
    """Return the image with the faces' boxes and landmarks; several faces are numbered from 1.

    Args:
        pixels: (h, w, 3) uint8 RGB; not modified.
        faces: the faces, in pixels of the original.
        scale: original pixels per pixel of `pixels`.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    line = max(1, round(min(image.size) * _LINE))
    for number, face in enumerate(faces, 1):
        left, top = face.left / scale, face.top / scale
        box = (left, top, left + face.width / scale, top + face.height / scale)
        # A light line within a dark one is visible on any image.
        draw.rectangle(box, outline=_DARK, width=3 * line)
        inner = (box[0] + line, box[1] + line, box[2] - line, box[3] - line)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            draw.rectangle(inner, outline=_LIGHT, width=line)
        for x, y in face.landmarks.values():
            draw.circle((x / scale, y / scale), 2 * line, fill=_LIGHT, outline=_DARK, width=line)
        if len(faces) > 1:
            _label(draw, box, str(number), min(image.size))
    return image


def _label(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, side: int
) -> None:
    """Draw the number above the box, or in it if there is no room above."""
    font = ImageFont.load_default(max(10.0, side * _LABEL))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2.0, side * _LABEL / 5)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    y = box[1] - height if box[1] >= height else box[1]
    draw.rectangle((box[0], y, box[0] + width, y + height), fill=_DARK)
    draw.text((box[0] + pad - left, y + pad - top), text, font=font, fill=_LIGHT)


def preview(data: bytes, faces: Sequence[FacePrediction], short_side: int) -> bytes:
    """Return a JPEG of the annotated image, its shorter side at most `short_side` pixels.

    Raises:
        Rejected: `data` cannot be decoded.
    """
    decoded = decode(data, short_side=short_side)
    image = Image.fromarray(decoded.pixels)
    if (share := short_side / min(image.size)) < 1:
        image = image.resize([max(1, round(side * share)) for side in image.size])
    scale = decoded.width / image.width
    return _encoded(annotated(np.asarray(image), faces, scale), "JPEG", quality=88)


def picture(data: bytes, faces: Sequence[FacePrediction]) -> bytes:
    """Return a PNG of the annotated image at full size.

    Raises:
        Rejected: `data` cannot be decoded.
    """
    return _encoded(annotated(decode(data).pixels, faces), "PNG", compress_level=3)


def _encoded(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
