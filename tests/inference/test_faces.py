from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from moodlake.inference.faces import DETECTOR, crop, find_faces
from moodlake.prediction import Face
from tests.images_made import astronaut_image

EYES_AND_MOUTH = {
    "right_eye": (203, 101),
    "left_eye": (246, 104),
    "nose": (223, 128),
    "mouth": (223, 145),
}
"""Points in the astronaut's photo of 512 x 512 pixels, marked by hand."""


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def face_at(x: float, y: float, side: int = 40, tilt: float = 0.0) -> Face:
    """An upright face whose crop is centred near (x, y); `tilt` lowers the left eye."""
    landmarks = {
        "right_eye": (x - 10, y - 10 - tilt),
        "left_eye": (x + 10, y - 10 + tilt),
        "nose": (x, y),
        "mouth": (x, y + 10),
    }
    return Face(round(x) - side // 2, round(y) - side // 2, side, side, 1.0, landmarks)


def test_a_face_is_found_with_its_landmarks() -> None:
    (face,) = find_faces(pixels_of(astronaut_image()))
    assert 0.6 <= face.confidence <= 1
    assert (face.left, face.top, face.width) == pytest.approx((173, 74, 102), abs=12)
    for name, place in EYES_AND_MOUTH.items():
        assert face.landmarks[name] == pytest.approx(place, abs=6), name


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2])
def test_faces_are_in_original_pixels(scale: float) -> None:
    decoded = astronaut_image().resize((round(512 * scale), round(512 * scale)))
    face = find_faces(pixels_of(decoded), 1 / scale)[0]
    assert face.width == pytest.approx(102, abs=15)
    assert face.landmarks["nose"] == pytest.approx(EYES_AND_MOUTH["nose"], abs=8)


def test_a_mirrored_face_has_its_right_eye_on_the_right_of_the_person() -> None:
    mirrored = pixels_of(astronaut_image())[:, ::-1]
    (face,) = find_faces(np.ascontiguousarray(mirrored))
    assert face.landmarks["right_eye"] == pytest.approx((512 - 246, 104), abs=6)
    assert face.landmarks["left_eye"] == pytest.approx((512 - 203, 101), abs=6)


@pytest.mark.parametrize("angle", [-30, -15, 15, 30])
def test_a_tilted_face_is_found_and_cropped_nearly_upright(angle: int) -> None:
    photo = astronaut_image().rotate(angle, fillcolor="grey", resample=Image.Resampling.BICUBIC)
    pixels = pixels_of(photo)
    found = find_faces(pixels)[0]
    (upright,) = find_faces(crop(pixels, found))
    (_, right), (_, left) = upright.landmarks["right_eye"], upright.landmarks["left_eye"]
    assert abs(left - right) < 0.12 * upright.width  # 10 degrees


def test_a_face_moves_with_the_image() -> None:
    canvas = Image.new("RGB", (900, 700), "grey")
    canvas.paste(astronaut_image(), (300, 150))
    face = find_faces(pixels_of(canvas))[0]
    assert face.landmarks["nose"] == pytest.approx((523, 278), abs=8)


def test_faces_come_largest_first() -> None:
    canvas = Image.new("RGB", (800, 512), "grey")
    canvas.paste(astronaut_image().resize((256, 256)), (520, 100))
    canvas.paste(astronaut_image(), (0, 0))
    widths = [face.width for face in find_faces(pixels_of(canvas))]
    assert len(widths) == 2
    assert widths[0] > 1.5 * widths[1]


def test_a_face_in_a_panorama_is_found() -> None:
    strip = Image.new("RGB", (3000, 512), "grey")
    strip.paste(astronaut_image(), (600, 0))
    (face,) = find_faces(pixels_of(strip))
    assert face.landmarks["nose"] == pytest.approx((823, 128), abs=10)


@pytest.mark.parametrize("side", [25, 48, 300])
def test_a_face_that_fills_the_image_is_found(side: int) -> None:
    tight = astronaut_image().crop((176, 76, 272, 172)).resize((side, side))
    (face,) = find_faces(pixels_of(tight))
    assert face.width > 0.6 * side


def test_images_without_a_face_have_none() -> None:
    for name in ("coffee", "rocket", "chelsea", "brick", "grass", "page"):
        pixels = getattr(data, name)()
        colour = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)
        assert find_faces(np.ascontiguousarray(colour)) == [], name


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5), (20, 4000), (4000, 30)])
def test_images_of_any_shape_are_searched(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert find_faces(noise) == []


def test_threads_find_the_same_faces() -> None:
    images = [
        pixels_of(astronaut_image().rotate(angle, fillcolor="grey").resize((width, 300)))
        for angle in (-20, 0, 20)
        for width in (250, 300, 400)
    ]
    alone = [find_faces(image) for image in images]
    assert all(alone)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_faces, images * 3)) == alone * 3


def test_a_crop_is_square_and_at_the_scale_of_the_pixels() -> None:
    rows, columns = np.mgrid[0:60, 0:90]
    pixels = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    # The original is twice as large as what was decoded.
    part = crop(pixels, face_at(90, 60), scale=2)
    assert part.shape[0] == part.shape[1] == pytest.approx(20, abs=3)
    middle = part.shape[0] // 2
    assert part[middle, middle, 1] == pytest.approx(45, abs=2)  # columns, of 90 pixels
    assert part[middle, -1, 1] - part[middle, 0, 1] == pytest.approx(part.shape[0] - 1, abs=1)


@pytest.mark.parametrize(("tilt", "turned"), [(0, 0), (1, 0), (10, 37), (-10, -37)])
def test_a_crop_is_turned_by_what_exceeds_a_small_tilt(tilt: int, turned: int) -> None:
    rows = np.mgrid[0:200, 0:200][0].astype(np.uint8)
    part = crop(np.stack([rows] * 3, axis=2), face_at(100, 100, tilt=tilt))[..., 0].astype(int)
    middle, across = len(part) // 2, len(part) - 1
    slope = (part[middle, -1] - part[middle, 0]) / across
    assert slope == pytest.approx(np.sin(np.radians(turned)), abs=0.03)


@pytest.mark.parametrize("place", [(0, 0), (99, 0), (0, 99), (99, 99), (-8, 50)])
def test_crops_repeat_the_images_border(place: tuple[int, int]) -> None:
    pixels = np.full((100, 100, 3), 77, np.uint8)
    part = crop(pixels, face_at(*place))
    assert part.shape[0] == part.shape[1] > 30
    assert (part == 77).all()


def test_a_crop_has_at_least_one_pixel() -> None:
    assert crop(np.zeros((10, 10, 3), np.uint8), face_at(4, 4, 1), scale=8).shape == (1, 1, 3)


@settings(max_examples=25, deadline=None)
@given(
    left=st.integers(-150, 400),
    top=st.integers(-60, 300),
    size=st.integers(60, 500),
    height=st.integers(40, 400),
    width=st.integers(40, 400),
)
def test_boxes_lie_inside_and_crops_are_never_empty(
    left: int, top: int, size: int, height: int, width: int
) -> None:
    canvas = Image.new("RGB", (width, height), "grey")
    canvas.paste(astronaut_image().resize((size, size)), (left, top))
    pixels = pixels_of(canvas)
    for face in find_faces(pixels):
        assert 0 <= face.left < face.left + face.width <= width
        assert 0 <= face.top < face.top + face.height <= height
        for x, y in face.landmarks.values():
            assert -width / 2 < x < 1.5 * width
            assert -height / 2 < y < 1.5 * height
        assert crop(pixels, face).size > 0


def test_the_detectors_description_covers_its_parameters() -> None:
    assert all(len(digest) == 64 for digest in DETECTOR["files"].values())
    assert DETECTOR["crop"]
