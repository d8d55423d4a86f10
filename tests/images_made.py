"""Valid and malformed images for the tests."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from PIL import Image


def astronaut() -> bytes:
    """Return a real photo with one smiling face: scikit-image's 512 x 512 PNG."""
    return (Path(skimage.__file__).parent / "data" / "astronaut.png").read_bytes()


def astronaut_image() -> Image.Image:
    """Return the photo of `astronaut`, decoded."""
    return Image.open(io.BytesIO(astronaut())).convert("RGB")


def picture(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    """Return a smooth colour picture, different for each seed."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """Encode an image with Pillow's `format` and `options`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, width: int = 64, height: int = 48) -> bytes:
    """Return a `picture` as a JPEG."""
    return encode(picture(seed, width, height), "JPEG", quality=92)


def png_bomb(side: int = 20_000) -> bytes:
    """Return a PNG of 90 bytes whose header declares `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def gif_bomb() -> bytes:
    """Return a GIF of 34 bytes; its only frame, cleared after display, is 49,858 pixels wide."""
    cleared = b"!\xf9\4\x08\0\0\0\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 49_858, 49_858, 0) + b"\2\0;"
    return b"GIF89a" + struct.pack("<HHBBB", 20, 10, 0, 0, 0) + cleared + frame


def bmp_of_runs(width: int = 8, height: int = 2) -> bytes:
    """Return a run-length encoded BMP (BI_RLE8) with data for 8 x 2 pixels."""
    palette, pixels = bytes(4) * 256, b"\x08\1\0\0\x04\2\0\2\0\0\x04\3\0\1"
    start = 14 + 40 + len(palette)
    about = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + struct.pack("<LHHL", start + len(pixels), 0, 0, start) + about + palette + pixels


def tiff_of_tiles(side: int, count: int) -> bytes:
    """Return a grey TIFF of 16 x `count` columns and 16 rows; its tiles are `side` rows high."""
    tile = zlib.compress(bytes(16 * side))
    tags = {  # number: (type, values); 3 is short, 4 is long
        256: (4, [16 * count]),
        257: (4, [16]),
        258: (3, [8]),
        259: (3, [8]),  # deflate
        262: (3, [1]),
        277: (3, [1]),
        322: (4, [16]),
        323: (4, [side]),
        324: (4, [8] * count),
        325: (4, [len(tile)] * count),
    }
    after = 8 + len(tile)
    directory_end = after + 2 + 12 * len(tags) + 4
    directory, values = struct.pack("<H", len(tags)), b""
    for tag, (kind, content) in tags.items():
        packed = struct.pack(f"<{len(content)}{'H' if kind == 3 else 'L'}", *content)
        if len(packed) > 4:
            place, packed = directory_end + len(values), packed
            values += packed
            packed = struct.pack("<L", place)
        directory += struct.pack("<HHL", tag, kind, len(content)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<L", after) + tile + directory + bytes(4) + values


def jpeg_of_scans(repeats: int, side: int) -> bytes:
    """Return a progressive JPEG that repeats a scan; each scan costs a pass over all pixels."""
    data = encode(Image.new("RGB", (side, side), "navy"), "JPEG", progressive=True)
    _, second, third = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"][:3]
    return data[:second] + data[second:third] * repeats + data[second:]


def animated_gif() -> bytes:
    """Return a GIF of two frames."""
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bit_png() -> bytes:
    """Return a grey PNG of 16 bits per pixel."""
    wide = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    return encode(Image.fromarray(wide), "PNG")
