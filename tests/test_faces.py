from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from moodlake.faces import Face, crop, find_faces
from tests.images_made import astronaut_image


def test_a_crop_is_the_box_at_the_scale_of_the_pixels() -> None:
    rows, columns = np.mgrid[0:60, 0:90]
    pixels = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    # The original is twice as large as what was decoded.
    part = crop(pixels, Face(left=100, top=40, width=40, height=30, confidence=1.0), scale=2)
    assert part.shape == (15, 20, 3)
    assert part[0, 0].tolist() == [20, 50, 20]
    assert part[-1, -1].tolist() == [34, 69, 34]


def test_a_crop_has_a_pixel_at_least() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    assert crop(pixels, Face(4, 4, 1, 1, 1.0), scale=8).shape == (1, 1, 3)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_boxes_are_given_in_original_pixels(scale: float) -> None:
    decoded = astronaut_image().resize((round(512 * scale), round(512 * scale)))
    face = find_faces(np.asarray(decoded), 1 / scale)[0]
    assert (face.left + face.width / 2, face.top + face.height / 2) == pytest.approx(
        (225, 110), abs=20
    )
    assert 70 < face.width < 140


def test_a_face_in_a_panorama_is_found() -> None:
    strip = Image.new("RGB", (3000, 512), "grey")
    strip.paste(astronaut_image(), (600, 0))
    assert find_faces(np.asarray(strip))[0].left == pytest.approx(780, abs=25)
