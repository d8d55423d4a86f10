from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moodlake.inference.decoding import FORMATS, Limits, decode
from moodlake.reasons import Reason, Rejected
from tests.images_made import (
    animated_gif,
    bmp_of_runs,
    encode,
    gif_bomb,
    jpeg,
    jpeg_of_scans,
    picture,
    png_bomb,
    sixteen_bit_png,
    tiff_of_tiles,
)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_decodes_to_the_same_picture(format: str) -> None:
    image = decode(encode(picture(), format))
    assert (image.format, image.width, image.height) == (format, 64, 48)
    assert np.abs(image.pixels.astype(int) - np.asarray(picture())).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (10, 8), 255)
    image = (
        Image.fromarray(np.full((8, 10), 65535, np.uint16))
        if mode == "I;16"
        else grey.convert(mode)
    )
    pixels = decode(encode(image, "PNG")).pixels
    assert pixels.shape == (8, 10, 3)
    assert (pixels == 255).all()


def test_cmyk_jpeg() -> None:
    white = decode(encode(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")).pixels
    assert (white > 250).all()


def test_sixteen_bits_keep_their_range() -> None:
    pixels = decode(sixteen_bit_png()).pixels
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert 100 < pixels.mean() < 155


def test_a_dark_sixteen_bit_image_stays_dark() -> None:
    dark = Image.fromarray(np.full((8, 8), 255, np.uint16))
    assert (decode(encode(dark, "PNG")).pixels == 0).all()


def test_an_mpo_file_is_a_jpeg() -> None:
    several = encode(picture(1), "MPO", save_all=True, append_images=[picture(2)])
    assert decode(several).format == "JPEG"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_does_not_matter(format: str) -> None:
    sound = encode(picture(), format, exif=b"Exif\0\0NOT-A-TIFF-HEADER")
    assert decode(sound).format == format


def test_transparent_pixels_are_put_over_white() -> None:
    assert (decode(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")).pixels == 255).all()


def test_an_animation_decodes_to_its_first_frame() -> None:
    red = decode(animated_gif()).pixels[0, 0]
    assert red[0] > 200 > 50 > red[2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(format: str, orientation: int) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255  # white in the top left corner
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(stored, format, exif=exif))
    assert (image.width, image.height) == (64, 32)
    assert image.pixels[4, 4].mean() > 200
    assert image.pixels[28, 60].mean() < 50


def test_scaled_decoding_keeps_the_original_size_on_record() -> None:
    image = decode(jpeg(width=800, height=600), short_side=150)
    assert (image.width, image.height) == (800, 600)
    assert 150 <= image.pixels.shape[0] < 300
    assert image.scale == pytest.approx(800 / image.pixels.shape[1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"just some text", Reason.NOT_AN_IMAGE),
        (b"P6 is how this sentence starts", Reason.NOT_AN_IMAGE),
        (jpeg()[: len(jpeg()) // 2], Reason.TRUNCATED),
        (encode(picture(), "PNG")[:60], Reason.TRUNCATED),
        (jpeg()[:4], Reason.TRUNCATED),
        (png_bomb(), Reason.TOO_MANY_PIXELS),
        (png_bomb(60_000), Reason.TOO_MANY_PIXELS),
        (gif_bomb(), Reason.TOO_MANY_PIXELS),
        (tiff_of_tiles(2**20, 60), Reason.TOO_MANY_PIXELS),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, Reason.UNSUPPORTED_FORMAT),
        (encode(picture(), "ICO"), Reason.UNSUPPORTED_FORMAT),
        (encode(picture().convert("F"), "TIFF"), Reason.UNSUPPORTED_FORMAT),
    ],
)
def test_bad_files_are_rejected_with_a_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        decode(data)
    assert caught.value.reason is reason


@pytest.mark.parametrize("bomb", ["png_bomb(60_000)", "gif_bomb()", "tiff_of_tiles(2**20, 60)"])
def test_rejected_images_take_no_memory(bomb: str) -> None:
    code = (
        "import re; from moodlake.inference.decoding import decode\n"
        "from tests.images_made import *\n"
        f"try: decode({bomb})\n"
        "except Exception as error: print(error.reason)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    reason, kilobytes = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert (reason, int(kilobytes) < 100_000) == ("too_many_pixels", True), kilobytes


def test_limits_are_checked_before_decoding() -> None:
    with pytest.raises(Rejected) as caught:
        decode(jpeg(), Limits(max_bytes=100))
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(Rejected) as caught:
        decode(jpeg(), Limits(max_pixels=100))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert (caught.value.width, caught.value.height) == (64, 48)


def test_a_large_run_length_encoded_bmp_is_not_decoded() -> None:
    """Pillow decodes them in Python: 5 seconds for a file of 56 bytes."""
    assert decode(bmp_of_runs()).pixels.shape == (2, 8, 3)
    assert decode(encode(picture(0, 2100, 1000), "BMP")).format == "BMP"
    with pytest.raises(Rejected, match="2100 x 1000 pixels, run-length encoded") as caught:
        decode(bmp_of_runs(2100, 1000))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def test_a_jpeg_with_too_many_scans_is_not_decoded() -> None:
    limits = Limits(max_pixels=64 * 64)
    assert decode(jpeg_of_scans(1, 64), limits).format == "JPEG"
    with pytest.raises(Rejected, match="scans of 64 x 64 pixels") as caught:
        decode(jpeg_of_scans(100, 64), limits)
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def test_tiles_are_clipped_to_the_tiff() -> None:
    assert decode(tiff_of_tiles(64, 3)).pixels.shape == (16, 48, 3)


def test_data_after_a_jpeg_has_no_scans() -> None:
    video = b"\xff\xda" * 1_000
    assert decode(jpeg() + video, Limits(max_pixels=64 * 48)).format == "JPEG"


def outcome(data: bytes) -> str:
    """Decode `data`; any error but Rejected fails the test."""
    try:
        return decode(data).format
    except Rejected as error:
        return error.reason.value


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_rejected(data: bytes) -> None:
    assert outcome(data) in [*FORMATS, *Reason]


@given(st.integers(0, 1500), st.binary(min_size=1, max_size=20))
def test_damaged_images_are_decoded_or_rejected(position: int, noise: bytes) -> None:
    whole = bytearray(jpeg())
    whole[position : position + len(noise)] = noise
    assert outcome(bytes(whole)) in [*FORMATS, *Reason]
