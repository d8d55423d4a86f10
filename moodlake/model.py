"""The model bundle: weights, preprocessing, labels, calibration and provenance, and predict().

A bundle is a folder, or the same files in a TorchServe archive (.mar):

    model.json            what it is: readable, and all that `digest_of` covers
    model.xml, model.bin  the network as OpenVINO IR: (N, channels, size, size) -> logits (N, E)
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace
from moodlake.errors import MendableError
from moodlake.faces import DETECTION_SHORT_SIDE, FaceMode, crop, find_faces
from moodlake.images import Limits, decode
from moodlake.prediction import FacePrediction, Prediction, as_dict
from moodlake.preprocessing import Preprocessing
from moodlake.reasons import Reason, Rejected

META_FILE = "model.json"
NETWORK_FILES = ("model.xml", "model.bin")
_DIGESTED = ("label_space", "preprocessing", "temperature", "faces", "files")
_MAX_BATCH = 64


class BundleError(MendableError):
    """A bundle that cannot be used; the message says which file and why."""


def digest_of(meta: dict[str, Any]) -> str:
    """SHA-256 over all that decides a prediction: labels, preprocessing, calibration, network.

    Args:
        meta: the content of model.json; its `files` maps the network's files to their SHA-256.
    """
    digested = {name: meta[name] for name in _DIGESTED}
    canonical = json.dumps(digested, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made a row."""

    name: str
    version: str
    digest: str


class Model:
    """A loaded bundle. Safe to share between threads.

    Attributes:
        identity: name, version and digest.
        space: the label space of its distributions.
        preprocessing: from a crop to the network's input.
        faces: the face mode the model was made for, used where a caller names none.
        provenance: what it was trained from (digests, parameters, metrics).
    """

    def __init__(self, meta: dict[str, Any], network: openvino.Model, streams: int) -> None:
        self.identity = ModelIdentity(meta["name"], meta["version"], meta["digest"])
        self.space = LabelSpace.from_dict(meta["label_space"])
        self.preprocessing = Preprocessing(**meta["preprocessing"])
        self.faces = FaceMode(meta["faces"])
        self.provenance: dict[str, Any] = meta["provenance"]
        self._temperature = float(meta["temperature"])
        self._compiled = openvino.Core().compile_model(
            network,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": streams,
                "NUM_STREAMS": streams,
                "INFERENCE_PRECISION_HINT": "f32",
                # Pinned threads of several workers land on the same cores.
                "ENABLE_CPU_PINNING": False,
            },
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
        files = _read_bundle(Path(path))
        try:
            meta = json.loads(files[META_FILE])
            for name in NETWORK_FILES:
                if hashlib.sha256(files[name]).hexdigest() != meta["files"][name]:
                    raise BundleError(f"{path}: {name} is not the file that {META_FILE} names")
            if digest_of(meta) != meta["digest"]:
                raise BundleError(f"{path}: {META_FILE} was changed after its digest was written")
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: {META_FILE} is not that of a model: {error!r}") from error
        network = openvino.Core().read_model(*(files[name] for name in NETWORK_FILES))
        return cls(meta, network, streams)

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distributions (N, E) for preprocessed inputs (N, channels, size, size).

        A row does not depend on the others in the batch.
        """
        request = self._compiled.create_infer_request()
        chunks = [
            request.infer({0: inputs[start : start + _MAX_BATCH]})[0].copy()
            for start in range(0, len(inputs), _MAX_BATCH)
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
    ) -> list[Prediction]:
        """Predictions for encoded images, in order; a bad one is rejected and hurts no other."""
        mode = faces or self.faces
        prepared = [self._prepare(data, mode, limits) for data in images]
        inputs = [crop for item in prepared if isinstance(item, _Prepared) for crop in item.inputs]
        try:
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

    def _prepare(self, data: bytes, mode: FaceMode, limits: Limits | None) -> _Prepared | Rejected:
        try:
            short_side = max(DETECTION_SHORT_SIDE, self.preprocessing.size)
            image = decode(data, limits, short_side=short_side)
            header: dict[str, Any] = {
                "width": image.width,
                "height": image.height,
                "format": image.format,
            }
            if mode is FaceMode.NONE:
                return _Prepared(header, [], [self.preprocessing(image.pixels)])
            found = find_faces(image.pixels, image.scale)
            if not found:
                raise Rejected(Reason.NO_FACE, "no face found", **header)
            read = found if mode is FaceMode.ALL else found[:1]
            crops = [crop(image.pixels, face, image.scale) for face in read]
            faces = [FacePrediction.of(face, None) for face in found]
            return _Prepared(header, faces, [self.preprocessing(pixels) for pixels in crops])
        except Rejected as error:
            return error
        except Exception as error:  # whatever one image provokes must not reach its neighbours
            return Rejected(Reason.MODEL_ERROR, f"{type(error).__name__}: {error}"[:200])

    def _prediction(self, item: _Prepared, distributions: list[NDArray[np.float32]]) -> Prediction:
        scored = [as_dict(row, self.space) for row in distributions]
        unscored = [None] * (len(item.faces) - len(scored))
        faces = tuple(
            FacePrediction(**{**vars(face), "distribution": distribution})
            for face, distribution in zip(item.faces, [*scored, *unscored], strict=False)
        )
        return Prediction.scored(distributions[0], self.space, **item.header, faces=faces)


@dataclass(frozen=True)
class _Prepared:
    """What is kept of an image, not its pixels: size and format, faces (largest first), inputs."""

    header: dict[str, Any]
    faces: list[FacePrediction]
    inputs: list[NDArray[np.float32]]


def read_meta(path: Path | str) -> dict[str, Any]:
    """model.json of a bundle folder or .mar, without loading its network."""
    meta: dict[str, Any] = json.loads(_read_bundle(Path(path), (META_FILE,))[META_FILE])
    return meta


def _read_bundle(
    path: Path, names: tuple[str, ...] = (META_FILE, *NETWORK_FILES)
) -> dict[str, bytes]:
    try:
        if path.is_dir():
            return {name: (path / name).read_bytes() for name in names}
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in names}
    except FileNotFoundError as error:
        raise BundleError(f"{error.filename} is not there; check the path") from error
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is not a model bundle: {error}") from error


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distributions = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return distributions.astype(np.float32, copy=False)
