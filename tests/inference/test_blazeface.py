from __future__ import annotations

import numpy as np
import pytest

from moodlake.inference import blazeface
from moodlake.inference.blazeface import anchors, decode, merge
from moodlake.inference.crop import Square


def face(x: float, y: float, side: float) -> np.ndarray:
    return np.array([(x, y), (side, side), *[(x, y)] * 4], float)


def test_anchors_match_mediapipes_layout() -> None:
    """896 at the networks' own sizes: two in each cell of the fine grid, six of the coarse."""
    places = anchors(((16, 2), (32, 6)), (256, 256))
    assert places.shape == (896, 2)
    assert places[:3].tolist() == [[8, 8], [8, 8], [24, 8]]
    assert places[512].tolist() == places[517].tolist() == [16, 16]
    assert places[-1].tolist() == [240, 240]


def test_outputs_become_boxes_and_landmarks_from_their_anchor() -> None:
    regressors = np.arange(32, dtype=np.float32).reshape(2, 16)
    faces, scores = decode(regressors, np.array([-5, 0], np.float32), np.array([(0, 0), (100, 50)]))
    assert scores.tolist() == [0.5]
    assert faces[0].tolist() == [[116, 67], [18, 19], [120, 71], [122, 73], [124, 75], [126, 77]]


def test_a_detection_without_extent_is_dropped() -> None:
    faces, scores = decode(np.zeros((1, 16), np.float32), np.ones(1, np.float32), np.zeros((1, 2)))
    assert len(faces) == len(scores) == 0


def test_overlapping_detections_become_their_weighted_mean() -> None:
    found = np.array([face(14, 10, 20), face(100, 10, 20), face(10, 10, 20)])
    faces, scores = merge(found, np.array([0.3, 0.6, 0.9]))
    assert scores.tolist() == [0.9, 0.6]
    assert faces[:, 0].tolist() == [pytest.approx([11, 10]), [100, 10]]


def test_nothing_merges_to_nothing() -> None:
    faces, scores = merge(np.empty((0, 6, 2)), np.empty(0))
    assert faces.shape == (0, 6, 2)
    assert scores.shape == (0,)


def test_a_changed_network_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blazeface._SHA256, blazeface._LOOK, "0" * 64)
    with pytest.raises(RuntimeError, match="short_range"):
        blazeface._Network(blazeface._LOOK, (64, 64))


@pytest.mark.parametrize("turn", [0, 0.6, -2.5])
@pytest.mark.parametrize("size", [10, 64, 300])
def test_a_square_contains_the_turned_part_of_the_image(turn: float, size: int) -> None:
    rows, columns = np.mgrid[0:200, 0:240]
    pixels = np.stack([columns, rows, rows], axis=2).astype(np.uint8)
    square = Square(120, 90, 60, turn)
    content = square.cut(pixels, size)
    assert content.shape == (size, size, 3)
    for row, column in ((size // 4, size // 2), (size // 2, 3 * size // 4)):
        (x, y), seen = square.back(np.array([(column + 0.5, row + 0.5)]), size)[0], content
        assert seen[row, column, :2].tolist() == pytest.approx([x - 0.5, y - 0.5], abs=1.1)
