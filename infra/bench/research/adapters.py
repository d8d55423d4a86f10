"""Face detectors of other packages with a common interface and their recommended settings.

The project needs none of these packages. A detector whose package is missing is skipped with a
message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moodlake.inference import blazeface


@dataclass(frozen=True)
class Found:
    """A detection: left, top, width, height in pixels, score (higher is surer), landmarks."""

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float64] | None = None


Detector = Callable[[NDArray[np.uint8]], list[Found]]


def ours() -> Detector:
    """moodlake's detector, with the library's settings."""
    return _of_blazeface(blazeface.detect)


def blazeface_alone() -> Detector:
    """BlazeFace in one pass at 256 x 256, with MediaPipe's threshold of 0.5."""

    def search(pixels: NDArray[np.uint8]) -> tuple[blazeface.Faces, blazeface.Scores]:
        faces, scores = blazeface.search(pixels, (256, 256))
        return faces[scores >= 0.5], scores[scores >= 0.5]

    return _of_blazeface(search)


def _of_blazeface(
    detect: Callable[[NDArray[np.uint8]], tuple[blazeface.Faces, blazeface.Scores]],
) -> Detector:
    def found(pixels: NDArray[np.uint8]) -> list[Found]:
        return [
            Found((*(face[0] - face[1] / 2).tolist(), *face[1].tolist()), float(score), face[2:])
            for face, score in zip(*detect(pixels), strict=True)
        ]

    return found


def haar() -> Detector:
    """OpenCV's Haar cascade "alt2", with the shorter side at 240 pixels."""
    cascade = cv2.CascadeClassifier(
        str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml")
    )

    def found(pixels: NDArray[np.uint8]) -> list[Found]:
        shrink = max(1.0, min(pixels.shape[:2]) / 240)
        size = (round(pixels.shape[1] / shrink), round(pixels.shape[0] / shrink))
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        small = cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
        boxes, _, weights = cascade.detectMultiScale3(
            small, scaleFactor=1.15, minNeighbors=5, minSize=(24, 24), outputRejectLevels=True
        )
        return [
            Found(tuple(value * shrink for value in box), float(weight))
            for box, weight in zip(boxes, weights, strict=True)
        ]

    return found


def dlib_hog() -> Detector:
    """dlib's HOG detector without upsampling; pip install dlib-bin."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def found(pixels: NDArray[np.uint8]) -> list[Found]:
        boxes, scores, _ = detector.run(pixels, 0, 0.0)
        return [
            Found((box.left(), box.top(), box.width(), box.height()), score)
            for box, score in zip(boxes, scores, strict=True)
        ]

    return found


def mtcnn() -> Detector:
    """MTCNN of facenet-pytorch with its defaults; pip install facenet-pytorch torch torchvision."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # its operators need CUDA libraries; declaring them is enough here
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import facenet_pytorch.models.utils.detect_face as steps
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    steps.batched_nms = _batched_nms
    network = MTCNN(keep_all=True, device="cpu")

    def found(pixels: NDArray[np.uint8]) -> list[Found]:
        boxes, scores, points = network.detect(pixels, landmarks=True)
        if boxes is None:
            return []
        return [
            Found((box[0], box[1], box[2] - box[0], box[3] - box[1]), score, _four(point))
            for box, score, point in zip(boxes, scores, points, strict=True)
        ]

    return found


def _batched_nms(boxes: Any, scores: Any, groups: Any, overlap: float) -> Any:
    import torch

    if not len(boxes):
        return torch.empty(0, dtype=torch.int64)
    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    sides = torch.cat([apart[:, :2], apart[:, 2:] - apart[:, :2]], dim=1)
    kept = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, overlap)
    return torch.as_tensor(np.array(kept, dtype=np.int64).reshape(-1))


def yunet() -> Detector:
    """YuNet of libfacedetection, at full size; pip install yuface."""
    import yuface

    def found(pixels: NDArray[np.uint8]) -> list[Found]:
        scores, boxes, points = yuface.detect(np.ascontiguousarray(pixels[..., ::-1]))
        return [
            Found(tuple(box.tolist()), score / 100, _four(point.reshape(5, 2).astype(float)))
            for score, box, point in zip(scores, boxes, points, strict=True)
        ]

    return found


def _four(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert (5, 2) landmarks to (4, 2): the centre of the mouth replaces its two corners."""
    return np.array([*points[:3], points[3:].mean(axis=0)], float)


DETECTORS: Mapping[str, Callable[[], Detector]] = {
    "moodlake": ours,
    "BlazeFace back": blazeface_alone,
    "Haar alt2": haar,
    "dlib HOG": dlib_hog,
    "MTCNN": mtcnn,
    "YuNet": yunet,
}
