"""A loaded model: it scores images, explains predictions and checks itself."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace, dominant
from moodlake.errors import UserError
from moodlake.inference.bundle import read_bundle
from moodlake.inference.decoding import Limits, decode
from moodlake.inference.faces import crop, find_faces
from moodlake.inference.gradcam import GradCam
from moodlake.inference.openvino_config import on_cores
from moodlake.inference.preprocessing import Preprocessing
from moodlake.prediction import FaceMode, FacePrediction, ModelIdentity, Prediction, as_dict
from moodlake.reasons import Reason, Rejected
from moodlake.timings import Timings

_CHUNK = 64
"""Inputs per inference."""
_PROBE_TOLERANCE = 0.01
"""Allowed difference of probabilities: processors round the eighth decimal differently, while
another model differs by far more."""


class OutOfTime(UserError):
    """Scoring takes longer than allowed; the message says how many images are done."""


class ProbeFailed(UserError):
    """A model's prediction for the known image differs from the one stored when it was packed."""


@dataclass(frozen=True)
class Explanation:
    """The heat map of an emotion in an image.

    Attributes:
        emotion: the emotion that the heat map explains.
        heat: (size, size) float32 from 0 to 1, high where the model sees the emotion; all 0 if
            nowhere.
        crop: (channels, size, size) uint8, the part of the image that the model scores.
    """

    emotion: str
    heat: NDArray[np.float32]
    crop: NDArray[np.uint8]


class Model:
    """A loaded bundle. Safe to share between threads.

    Attributes:
        identity: name, version and digest.
        space: the label space of its distributions.
        preprocessing: from a crop to the network's input.
        faces: the face mode of the model's training, used if the caller names none.
        provenance: digests, parameters and metrics of its training.
        reference: profile of its predictions for images like those it was trained on, as
            `Profile.to_dict` returns it; None in older archives.
    """

    def __init__(self, meta: dict[str, Any], network: openvino.Model, streams: int) -> None:
        self.identity = ModelIdentity(meta["name"], meta["version"], meta["digest"])
        self.space = LabelSpace.from_dict(meta["label_space"])
        self.preprocessing = Preprocessing(**meta["preprocessing"])
        self.faces = FaceMode(meta["faces"])
        self.provenance: dict[str, Any] = meta["provenance"]
        self.reference: dict[str, Any] | None = meta.get("reference")
        self._temperature = float(meta["temperature"])
        self._probe: dict[str, Any] | None = meta.get("probe")
        self._network = network
        self._compiled = openvino.Core().compile_model(
            # Only explanations need the feature maps; copying them would slow predictions down.
            openvino.Model(
                [network.outputs[0].get_node().input_value(0)], network.get_parameters()
            ),
            "CPU",
            on_cores(streams),
        )

    @classmethod
    def load(cls, path: Path | str, *, streams: int = 1) -> Model:
        """Load a bundle folder or a .mar.

        Args:
            path: the folder or archive.
            streams: number of threads that may predict at once, each on one core.

        Raises:
            BundleError: a file is missing, unreadable, or does not match its digest.
        """
        meta, network = read_bundle(path)
        return cls(meta, openvino.Core().read_model(*network), streams)

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return distributions (N, E) for preprocessed inputs (N, channels, size, size).

        A row does not depend on the others in the batch.
        """
        request = self._compiled.create_infer_request()
        chunks = [
            request.infer({0: inputs[start : start + _CHUNK]})[0].copy()
            for start in range(0, len(inputs), _CHUNK)
        ]
        if not chunks:
            return np.empty((0, len(self.space)), np.float32)
        return _softmax(np.concatenate(chunks) / np.float32(self._temperature))

    def score(
        self,
        images: Sequence[bytes],
        *,
        faces: FaceMode | None = None,
        limits: Limits | None = None,
        timings: Timings | None = None,
        seconds: float = math.inf,
    ) -> list[Prediction]:
        """Return predictions for encoded images, in order. A rejected image affects no other.

        Args:
            images: encoded files.
            faces: the part of the images to score; None for the model's own face mode.
            limits: limits that are checked before decoding.
            timings: the seconds of each step are added to it.
            seconds: no image is started after this time.

        Raises:
            OutOfTime: the time is over before the last image is started.
        """
        mode, timings = faces or self.faces, timings or Timings()
        end = time.monotonic() + seconds
        predictions: list[Prediction] = []
        prepared: list[_Prepared | Rejected] = []
        for data in images:
            done = len(predictions) + len(prepared)
            if done and time.monotonic() > end:
                raise OutOfTime(f"scoring {done} of {len(images)} images")
            prepared.append(self._prepare(data, mode, limits, timings))
            # In portions: the faces of all images at once could fill the memory.
            if sum(len(item.inputs) for item in prepared if isinstance(item, _Prepared)) > _CHUNK:
                predictions += self._score(prepared, timings)
                prepared = []
        return predictions + self._score(prepared, timings)

    def _score(
        self, prepared: Sequence[_Prepared | Rejected], timings: Timings
    ) -> list[Prediction]:
        inputs = [crop for item in prepared if isinstance(item, _Prepared) for crop in item.inputs]
        try:
            with timings.step("infer"):
                rows = iter(self.predict(np.stack(inputs)) if inputs else ())
        except Exception as error:
            failed = Rejected(Reason.MODEL_ERROR, str(error)[:200])
            return [
                Prediction.rejected(failed if isinstance(item, _Prepared) else item)
                for item in prepared
            ]
        return [
            self._prediction(item, [next(rows) for _ in item.inputs])
            if isinstance(item, _Prepared)
            else Prediction.rejected(item)
            for item in prepared
        ]

    def explain(
        self,
        data: bytes,
        emotion: str | None = None,
        *,
        faces: FaceMode | None = None,
        limits: Limits | None = None,
    ) -> Explanation:
        """Return a heat map of where the model sees an emotion (Grad-CAM), on the largest face.

        Args:
            data: the encoded image.
            emotion: one of the label space; None for the dominant one.
            faces, limits: as for `score`.

        Raises:
            Rejected: the image cannot be scored.
            ValueError: there is no such emotion, or the network has no feature maps.
        """
        item = self._prepare(data, faces or self.faces, limits, Timings())
        if isinstance(item, Rejected):
            raise item.as_value()  # its traceback would keep the image in memory
        inputs = item.inputs[0]
        distribution = self.predict(inputs[None])[0]
        named = dominant(distribution, self.space) if emotion is None else emotion
        heat = self._grad_cam(inputs, self.space.index(named))
        return Explanation(named, heat, self.preprocessing.denormalise(inputs))

    @property
    def explainable(self) -> bool:
        """Whether the network has feature maps, and the model therefore heat maps."""
        return len(self._network.outputs) > 1

    @cached_property
    def _grad_cam(self) -> GradCam:
        return GradCam(self._network)

    def probe(self) -> Prediction:
        """Score a known face, and compare the prediction with the one stored in the bundle.

        Raises:
            ProbeFailed: they differ.
        """
        image = resources.files("moodlake.inference").joinpath("probe.jpg").read_bytes()
        (prediction,) = self.score([image])
        if self._probe is not None and not _alike(prediction, Prediction.from_dict(self._probe)):
            raise ProbeFailed(
                f"model {self.identity.digest[:12]} predicts {prediction.to_dict()} for the known "
                f"image, but predicted {self._probe} when it was packed"
            )
        return prediction

    def _prepare(
        self, data: bytes, mode: FaceMode, limits: Limits | None, timings: Timings
    ) -> _Prepared | Rejected:
        try:
            with timings.step("decode"):
                image = decode(data, limits, short_side=self.preprocessing.decoded_side)
            header: dict[str, Any] = {
                "width": image.width,
                "height": image.height,
                "format": image.format,
            }
            if mode is FaceMode.NONE:
                return _Prepared(header, [], [self.preprocessing(image.pixels)])
            with timings.step("detect"):
                found = find_faces(image.pixels, image.scale)
            if not found:
                raise Rejected(Reason.NO_FACE, "no face found", **header)
            chosen = found if mode is FaceMode.ALL else found[:1]
            crops = [crop(image.pixels, face, image.scale) for face in chosen]
            faces = [FacePrediction.of(face, None) for face in found]
            return _Prepared(header, faces, [self.preprocessing(pixels) for pixels in crops])
        except Rejected as error:
            return error.as_value()
        except Exception as error:  # an image must not make the others of its batch fail
            return Rejected(Reason.MODEL_ERROR, f"{type(error).__name__}: {error}"[:200])

    def _prediction(self, item: _Prepared, distributions: list[NDArray[np.float32]]) -> Prediction:
        scored = [as_dict(row, self.space) for row in distributions]
        unscored = [None] * (len(item.faces) - len(scored))
        faces = tuple(
            FacePrediction(**{**vars(face), "distribution": distribution})
            for face, distribution in zip(item.faces, [*scored, *unscored], strict=False)
        )
        brightness = float(self.preprocessing.brightness(item.inputs[0]))
        return Prediction.scored(
            distributions[0], self.space, **item.header, faces=faces, brightness=brightness
        )


def _alike(one: Prediction, other: Prediction) -> bool:
    if one.distribution is None or other.distribution is None:
        return (one.status, one.reason) == (other.status, other.reason)
    return one.distribution.keys() == other.distribution.keys() and all(
        abs(one.distribution[name] - other.distribution[name]) <= _PROBE_TOLERANCE
        for name in one.distribution
    )


@dataclass(frozen=True)
class _Prepared:
    """An image ready to score: size and format, faces (largest first), inputs; not its pixels."""

    header: dict[str, Any]
    faces: list[FacePrediction]
    inputs: list[NDArray[np.float32]]


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distributions = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return distributions.astype(np.float32, copy=False)
