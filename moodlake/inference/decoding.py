"""Decode image files to pixels: formats, orientation and limits.

Training and serving both use this module, so that they get the same pixels.
"""

from __future__ import annotations

import io
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.TiffImagePlugin import TiffImageFile

from moodlake.reasons import Reason, Rejected

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION_TAG = 0x0112
_TILE_WIDTH, _TILE_HEIGHT = 0x0142, 0x0143
_SIMPLE_JPEG_MODES = ("L", "RGB")
# Each scan of a JPEG is a pass over all pixels; cameras and editors write up to ten.
_MOST_SCANS = 16
# Pillow decodes run-length encoded BMPs in Python, which takes about a second for 2 million pixels:
# their limit is lower by this factor.
_RLE_COST = 32
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # a segment with a length, or the end
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# `Limits.max_pixels` is checked on the header, before decoding. But Pillow allocates a GIF's pixels
# when it opens the file, unless they are more than twice this number.
Image.MAX_IMAGE_PIXELS = 128_000_000


@dataclass(frozen=True)
class Limits:
    """Limits that are checked before decoding. The defaults allow a 50-megapixel camera's JPEG.

    Images of more than 256 million pixels are rejected even if `max_pixels` is higher.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 64_000_000


@dataclass(frozen=True)
class DecodedImage:
    """An upright image.

    Attributes:
        pixels: (h, w, 3) uint8 RGB; may be smaller than the original (see `decode`).
        width, height: size of the original after its EXIF orientation is applied.
        format: Pillow's name for the format, one of FORMATS.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str

    @property
    def scale(self) -> float:
        """Original pixels per decoded pixel; at least 1."""
        return self.width / self.pixels.shape[1]


def decode(data: bytes, limits: Limits | None = None, *, short_side: int = 0) -> DecodedImage:
    """Decode the first frame of an image to upright RGB.

    Grey, palette, CMYK and 16-bit images are converted; transparent pixels are put over white.

    Args:
        data: the encoded file, one of FORMATS.
        limits: checked on the length and on the header, before any pixel is decoded.
        short_side: allow decoding a JPEG at a smaller scale, several times faster, if its shorter
            side keeps at least this many pixels; 0 decodes at full size.

    Raises:
        Rejected: the image cannot be scored; gives the reason.
    """
    limits = limits or Limits()
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.TOO_LARGE, f"{len(data)} bytes; the limit is {limits.max_bytes}")
    image = _open(data)
    width, height = image.size
    # An MPO file of a phone holds several pictures; the first is a plain JPEG.
    format = "JPEG" if image.format == "MPO" else str(image.format)
    header: dict[str, Any] = {"width": width, "height": height, "format": format}
    if excess := _excess(image, data, limits.max_pixels):
        raise Rejected(Reason.TOO_MANY_PIXELS, excess, **header)
    try:
        if format == "JPEG" and image.mode in _SIMPLE_JPEG_MODES:
            pixels = _decode_jpeg(image, data, short_side)
        else:
            pixels = _decode_with_pillow(image)
        orientation = _orientation(image)
    except MemoryError:
        raise
    except Rejected as error:
        raise Rejected(error.reason, error.detail, **header) from error
    except Exception as error:  # decoders raise anything from OSError to struct.error
        detail = f"damaged or incomplete: {error}"[:200]
        raise Rejected(Reason.TRUNCATED, detail, **header) from error
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return DecodedImage(_upright(pixels, orientation), width, height, format)


def _open(data: bytes) -> Image.Image:
    """Read the header."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        known = _signature(data)
        if known in FORMATS:
            raise Rejected(Reason.TRUNCATED, f"damaged {known} header") from error
        if known:
            raise Rejected(
                Reason.UNSUPPORTED_FORMAT,
                f"{known}; supported are {', '.join(FORMATS)}",
                format=known,
            ) from error
        raise Rejected(Reason.NOT_AN_IMAGE, f"starts with {data[:12]!r}") from error
    except Image.DecompressionBombError as error:
        raise Rejected(Reason.TOO_MANY_PIXELS, str(error).split(",")[0]) from error
    except Exception as error:  # damaged headers: SyntaxError, struct.error, ValueError, ...
        raise Rejected(Reason.TRUNCATED, str(error)[:200]) from error


def _excess(image: Image.Image, data: bytes, most: int) -> str | None:
    """Describe the limit that decoding would exceed; None if there is none."""
    size = f"{image.width} x {image.height} pixels"
    pixels = image.width * image.height
    decoded = _decoded_pixels(image)
    if decoded > most:
        tiles = f", {decoded} in its tiles" if decoded > pixels else ""
        return f"{size}{tiles}; the limit is {most}"
    if image.format in ("JPEG", "MPO") and (scans := _count_scans(data)) * pixels > (
        _MOST_SCANS * most
    ):
        return f"{scans} scans of {size}; the limit is {_MOST_SCANS} x {most}"
    runs = isinstance(image, BmpImageFile) and image.tile[0].codec_name == "bmp_rle"
    if runs and _RLE_COST * pixels > most:
        return f"{size}, run-length encoded; the limit for these is {most // _RLE_COST}"
    return None


def _decoded_pixels(image: Image.Image) -> int:
    """Return the number of pixels that decoding writes; tiles may extend far beyond a TIFF."""
    if not isinstance(image, TiffImageFile):
        return image.width * image.height
    sides = []
    for side, tag in ((image.width, _TILE_WIDTH), (image.height, _TILE_HEIGHT)):
        tile = image.tag_v2.get(tag, side)
        tile = max(1, tile) if isinstance(tile, int) else 1
        sides.append(math.ceil(side / tile) * tile)
    return math.prod(sides)


def _signature(data: bytes) -> str | None:
    """Return the image format of the first bytes; None if they are of no known format."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"avis"):
        return "AVIF" if data[8:11] == b"avi" else "HEIF"
    if data.lstrip()[:5].lower() in (b"<svg ", b"<svg>"):
        return "SVG"
    Image.init()
    prefix = data[:16]
    for name, (_, accept) in Image.OPEN.items():
        # Signatures of one or two letters (PPM's "P6") also match plain text.
        if name in ("PPM", "MPEG", "TGA", "PCD") or accept is None:
            continue
        try:
            accepted = accept(prefix)
        except struct.error:  # fewer bytes than the format's signature
            continue
        if accepted and not isinstance(accepted, str):
            return name
    return None


def _count_scans(data: bytes) -> int:
    """Count the scans of a JPEG file's first picture; ignores data after it, such as a video."""
    if data.count(bytes((0xFF, _START_OF_SCAN))) <= _MOST_SCANS:
        return 1
    scans, place = 0, 0
    while found := _JPEG_MARKER.search(data, place):
        marker = data[found.start() + 1]
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans


def _decode_jpeg(image: Image.Image, data: bytes, short_side: int) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(
            data,
            fastdct=True,
            fastupsample=True,
            min_width=short_side or image.width,
            min_height=short_side or image.height,
        )
    except ValueError:  # Pillow reads unusual files, and describes the damage of others
        return _decode_with_pillow(image)


def _decode_with_pillow(image: Image.Image) -> NDArray[np.uint8]:
    image.seek(0)
    image.load()
    return np.asarray(_to_rgb(image))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded image, 1 to 8; 1 if the tag is unreadable.

    Call it after decoding, which turns a TIFF upright and drops the tag.
    """
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the metadata are damaged, the pixels are not
        return 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the EXIF orientation 1 to 8 (Exif 2.32, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Rejected(Reason.UNSUPPORTED_FORMAT, "floating-point pixels have no fixed range")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        wide = np.asarray(image)
        narrow = wide >> 8 if wide.max(initial=0) > 255 else wide
        return Image.fromarray(narrow.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
