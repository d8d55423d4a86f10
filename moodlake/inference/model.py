"""A loaded model: network, preprocessing, labels, calibration and provenance, and predict()."""

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
"""Inputs that the network is given at once."""
_PROBE_TOLERANCE = 0.01
"""Another processor rounds otherwise, in steps of the eighth decimal; another model is far off."""


class OutOfTime(UserError):
    """Images that take longer than they may; the message says how many were done."""


class ProbeFailed(UserError):
    """A model that does not say of the known image what it said when it was packed."""


@dataclass(frozen=True)
class Explanation:
    """What speaks for an emotion.

    Attributes:
        emotion: the emotion that is explained.
        heat: (size, size) float32: 0 to 1 where most speaks for it; all 0 where nothing does.
        crop: (channels, size, size) uint8: what the model reads.
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
        faces: the face mode the model was made for, used where a caller names none.
        provenance: what it was trained from (digests, parameters, metrics).
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
            # Feature maps are for explanations: copying them out would cost every prediction.
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
            streams: how many threads may predict at once, each on one core.

        Raises:
            BundleError: a file is absent, unreadable, or not the one its digest names.
        """
        meta, network = read_bundle(path)
        return cls(meta, openvino.Core().read_model(*network), streams)

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distributions (N, E) for preprocessed inputs (N, channels, size, size).

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
        """Predictions for encoded images, in order; a bad one is rejected and hurts no other.

        Args:
            images: encoded files.
            faces: which part of them to read; None for the model's own way.
            limits: what is refused before it is decoded.
            timings: the time that each step takes is added to it.
            seconds: no image is begun later than this.

        Raises:
            OutOfTime: images are left when the time is over.
        """
        mode, timings = faces or self.faces, timings or Timings()
        end = time.monotonic() + seconds
        predictions: list[Prediction] = []
        waiting: list[_Prepared | Rejected] = []
        for data in images:
            done = len(predictions) + len(waiting)
            if done and time.monotonic() > end:
                raise OutOfTime(f"scoring {done} of {len(images)} images")
            waiting.append(self._prepare(data, mode, limits, timings))
            # Scored as they come: the faces of many images at once would fill the memory.
            if sum(len(item.inputs) for item in waiting if isinstance(item, _Prepared)) > _CHUNK:
                predictions += self._score(waiting, timings)
                waiting = []
        return predictions + self._score(waiting, timings)

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
        """Where in one image the model sees an emotion: Grad-CAM, on the largest face.

        Args:
            data: the encoded image.
            emotion: one of the label space; None for the dominant one.
            faces, limits: as for `score`.

        Raises:
            Rejected: the image cannot be scored.
            ValueError: no such emotion, or the network has no feature maps to look at.
        """
        item = self._prepare(data, faces or self.faces, limits, Timings())
        if isinstance(item, Rejected):
            raise item.as_value()  # one that a variable holds would hold the image
        inputs = item.inputs[0]
        distribution = self.predict(inputs[None])[0]
        named = dominant(distribution, self.space) if emotion is None else emotion
        heat = self._grad_cam(inputs, self.space.index(named))
        return Explanation(named, heat, self.preprocessing.denormalise(inputs))

    @property
    def explainable(self) -> bool:
        """The network has feature maps to explain a prediction by."""
        return len(self._network.outputs) > 1

    @cached_property
    def _grad_cam(self) -> GradCam:
        return GradCam(self._network)

    def probe(self) -> Prediction:
        """Score a face that everybody knows, and compare with the answer stored in the bundle.

        Raises:
            ProbeFailed: the answer is another one.
        """
        seen = self.score(
            [resources.files("moodlake.inference").joinpath("probe.jpg").read_bytes()]
        )[0]
        if self._probe is not None and not _alike(seen, Prediction.from_dict(self._probe)):
            raise ProbeFailed(
                f"model {self.identity.digest[:12]} reads the known image as {seen.to_dict()}, "
                f"but read it as {self._probe} when it was packed"
            )
        return seen

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
            read = found if mode is FaceMode.ALL else found[:1]
            crops = [crop(image.pixels, face, image.scale) for face in read]
            faces = [FacePrediction.of(face, None) for face in found]
            return _Prepared(header, faces, [self.preprocessing(pixels) for pixels in crops])
        except Rejected as error:
            return error.as_value()
        except Exception as error:  # whatever one image provokes must not reach its neighbours
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


def _alike(seen: Prediction, stored: Prediction) -> bool:
    if seen.distribution is None or stored.distribution is None:
        return (seen.status, seen.reason) == (stored.status, stored.reason)
    return seen.distribution.keys() == stored.distribution.keys() and all(
        abs(seen.distribution[name] - stored.distribution[name]) <= _PROBE_TOLERANCE
        for name in seen.distribution
    )


@dataclass(frozen=True)
class _Prepared:
    """What is kept of an image, not its pixels: size and format, faces (largest first), inputs."""

    header: dict[str, Any]
    faces: list[FacePrediction]
    inputs: list[NDArray[np.float32]]


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distributions = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return distributions.astype(np.float32, copy=False)
