"""Fuzz the code that decodes images and reads requests, with libFuzzer.

`python -m tests.fuzz images -max_total_time=3600` (or `requests`) stops at the first crash, at the
first input that takes longer than 5 seconds, or at 2 GB of memory, and writes that input to a file.
Further arguments are libFuzzer's; the last may be a folder that stores interesting inputs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "moodlake", "python_multipart", "email", "json"]):
    from PIL import (  # noqa: F401 - Pillow would import them later, not instrumented
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    from moodlake.inference.decoding import FORMATS, decode
    from moodlake.inference.faces import crop, find_faces
    from moodlake.inference.preprocessing import Preprocessing
    from moodlake.reasons import Rejected
    from moodlake.serving.options import BadRequest
    from moodlake.serving.requests import parse_request

from infra.bench.bodies import as_form, as_json
from tests.images_made import (
    animated_gif,
    bmp_of_runs,
    encode,
    jpeg_of_scans,
    picture,
    sixteen_bit_png,
    tiff_of_tiles,
)

_SHORT_SIDES = (0, 16, 240)
_INPUT = Preprocessing(size=48, channels=1)
_LIMITS = ("-timeout=5", "-rss_limit_mb=2048", "-max_len=40000", "-print_final_stats=1")


def read_image(data: bytes) -> None:
    """Decode an image; fails unless it is decoded or rejected."""
    try:
        image = decode(data[1:], short_side=_SHORT_SIDES[data[0] % 3] if data else 0)
    except Rejected:
        return
    assert image.pixels.ndim == 3
    assert image.format in FORMATS
    for face in find_faces(image.pixels, image.scale):
        _INPUT(crop(image.pixels, face, image.scale))
    _INPUT(image.pixels)


def read_request(data: bytes) -> None:
    """Read a request (a line of type, a line of query, the body); fails unless read or rejected."""
    kind, query, body = (*data.split(b"\n", 2), b"", b"")[:3]
    try:
        parse_request(body, kind.decode("latin-1"), query.decode("latin-1"))
    except BadRequest:
        return


def images() -> list[bytes]:
    """Return image files of all formats and many modes."""
    found = [animated_gif(), sixteen_bit_png(), jpeg_of_scans(3, 32)]
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    small = picture(width=24, height=16)
    found += [encode(small, format) for format in (*FORMATS, "MPO")]
    found += [encode(small.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA")]
    found += [encode(small.convert(mode), "TIFF") for mode in ("1", "L", "P", "CMYK", "F", "I")]
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        found.append(encode(small, "TIFF", compression=compression))
    found += [tiff_of_tiles(16, 2), tiff_of_tiles(64, 1), bmp_of_runs()]
    found += [encode(small, "JPEG", exif=exif), encode(small.convert("CMYK"), "JPEG")]
    found += [encode(small, "WEBP", lossless=True), encode(small, "JPEG", progressive=True)]
    return [bytes((number % 3,)) + data for number, data in enumerate(found)]


def requests() -> list[bytes]:
    """Return one request of each kind."""
    two = [b"one", b"two"]
    kinds = [as_form(two), as_json(two, faces="all"), ("image/jpeg", b"x")]
    return [kind.encode() + b"\nfaces=all&top_k=3\n" + body for kind, body in kinds]


_TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "images": (read_image, images),
    "requests": (read_request, requests),
}


def main(name: str, arguments: list[str]) -> None:
    """Fuzz until a failure is found or the time is over."""
    target, seeds = _TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed-{number:02}").write_bytes(seed)
        atheris.Setup([sys.argv[0], *_LIMITS, *arguments, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] not in ([name] for name in _TARGETS):
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(_TARGETS)} [libFuzzer options]")
    main(sys.argv[1], sys.argv[2:])
