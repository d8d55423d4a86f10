"""Convert a trained network to the bundle that `moodlake.inference.model` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from moodlake.errors import UserError
from moodlake.inference.bundle import META_FILE, NETWORK_FILES, digest_of
from moodlake.inference.faces import DETECTOR
from moodlake.inference.model import Model
from moodlake.inference.preprocessing import Preprocessing
from training.architectures import own_weights, preprocessing_of, stages
from training.architectures.ensemble import Ensemble
from training.architectures.inside import has_attention, last_grid
from training.data_set.facts import Facts
from training.evaluation.calibration import Calibration
from training.files import sha256, write_json
from training.metrics import Array, kl_divergence, top_k_accuracy
from training.params import ArchiveParams, Params

MOST_ACCURACY_LOST = 0.003
MOST_KL_GAINED = 0.005


class BundleDiffers(UserError):
    """The bundle predicts worse than its network; the message states by how much."""


def stored_weights(weights: Path, params: ArchiveParams) -> bytes:
    """Return trained weights in the archive's precision, as the content of a .safetensors file.

    Equal weights make equal bytes.
    """
    tensors = safetensors.torch.load_file(weights)
    if params.precision == "fp16":
        tensors = {
            name: value.half() if value.is_floating_point() else value
            for name, value in tensors.items()
        }
    with safetensors.safe_open(weights, "pt") as opened:
        return safetensors.torch.save(tensors, opened.metadata())


def write_bundle(
    folder: Path,
    converted: openvino.Model,
    params: Params,
    facts: Facts,
    weights: Path,
    calibration: Calibration,
    metrics: dict[str, Any],
    *,
    int8: bool = False,
) -> dict[str, Any]:
    """Write the bundle that moodlake.inference.model reads; returns its metadata.

    The network is stored in `params.archive.precision` and, unless quantised, computes in fp32.
    Equal arguments make equal bytes.

    Args:
        folder: created if absent.
        converted: see `packed_network`.
        params, facts, metrics: parameters, data and results of the training.
        weights: the torch weights that `converted` was made from.
        calibration: its temperature is stored; `converted` includes its weight and bias.
        int8: whether `converted` was quantised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = params.archive.precision == "fp16"
    openvino.save_model(converted, folder / NETWORK_FILES[0], compress_to_fp16=half)
    meta: dict[str, Any] = {
        "name": params.archive.name,
        "version": params.archive.version,
        "label_space": {"name": facts.space.name, "emotions": list(facts.space.emotions)},
        "preprocessing": preprocessing_of(params.model).to_dict(),
        "temperature": calibration.temperature,
        "faces": facts.faces,
        "detector": dict(DETECTOR),
        "files": {name: sha256(folder / name) for name in NETWORK_FILES},
        "provenance": {
            "data_name": facts.name,
            "data_digest": facts.digest,
            "weights_sha256": sha256(weights),
            own_weights.STORED: hashlib.sha256(stored_weights(weights, params.archive)).hexdigest(),
            "sources": dict(own_weights.made_from(weights).sources),
            "params": params.to_dict(),
            "metrics": metrics,
            "int8": int8,
        },
    }
    meta["provenance"]["params"]["data"]["path"] = None  # where the files lay is irrelevant
    meta["digest"] = digest_of(meta)
    write_json(folder / META_FILE, meta)
    meta["probe"] = Model.load(folder).probe().to_dict()
    write_json(folder / META_FILE, meta)
    return meta


def packed_network(network: nn.Module, params: Params, calibration: Calibration) -> openvino.Model:
    """Convert the calibrated network, with the feature maps for heat maps, for `write_bundle`."""
    preprocessing = preprocessing_of(params.model)
    scaled = nn.Sequential(network, _Scale(calibration)) if calibration.weight else network
    layer = _heat_map_layer(network, params, preprocessing)
    converted = to_openvino(scaled, preprocessing, layer)
    name_by_position(converted, params.archive.name)
    return converted


def _heat_map_layer(
    network: nn.Module, params: Params, preprocessing: Preprocessing
) -> nn.Module | None:
    """Return the layer for heat maps (Grad-CAM); transformers and ensembles have none."""
    if has_attention(network) or isinstance(network, Ensemble):
        return None
    parts = stages(network, params.model.architecture)[0]
    return last_grid(network.eval(), parts, _example(preprocessing))


def to_openvino(
    network: nn.Module, preprocessing: Preprocessing, layer: nn.Module | None = None
) -> openvino.Model:
    """Convert a network for batches of any size; its second output is that of `layer`."""
    example = _example(preprocessing)
    with ExitStack() as stack:
        stack.enter_context(plain_attention())
        whole = network
        if layer:
            whole = _WithFeatures(network)
            stack.enter_context(layer.register_forward_hook(whole.keep))
        # Without torch's check, which traces the network again and compares three runs. The archive
        # stage compares the packed network with the original.
        traced = torch.jit.trace(whole.eval(), example, strict=False, check_trace=False)
        return openvino.convert_model(traced, example_input=example, input=[-1, *example.shape[1:]])


def _example(preprocessing: Preprocessing) -> torch.Tensor:
    return torch.zeros(1, preprocessing.channels, preprocessing.size, preprocessing.size)


class _WithFeatures(nn.Module):
    """Returns logits and the feature maps that they are computed from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._features = torch.empty(0)

    def keep(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        """Forward hook: keep the layer's output."""
        self._features = output

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(inputs)
        return logits, self._features


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention as matrix products: converters cannot trace its fast path."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


class _Scale(nn.Module):
    """Vector scaling as the network's last layer."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(calibration.weight))
        self.register_buffer("bias", torch.tensor(calibration.bias))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self.get_buffer("weight") + self.get_buffer("bias")


def name_by_position(network: openvino.Model, name: str) -> None:
    """Name nodes by position: OpenVINO's default names depend on a counter of the process."""
    network.set_friendly_name(name)
    for index, node in enumerate(network.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{index}")


@dataclass(frozen=True)
class Cost:
    """Accuracy and KL of a bundle, and their loss through packing.

    Attributes:
        accuracy, kl: of the bundle.
        accuracy_lost, kl_gained: relative to the network that it was made from.
    """

    accuracy: float
    kl: float
    accuracy_lost: float
    kl_gained: float

    @property
    def bearable(self) -> bool:
        """Whether both losses are within MOST_ACCURACY_LOST and MOST_KL_GAINED (NaN is not)."""
        return self.accuracy_lost <= MOST_ACCURACY_LOST and self.kl_gained <= MOST_KL_GAINED

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.4f} ({0 - self.accuracy_lost:+.4f}), "
            f"KL {self.kl:.4f} ({self.kl_gained:+.4f})"
        )


def cost_of(folder: Path, images: NDArray[np.uint8], target: Array, expected: Array) -> Cost:
    """Measure a bundle against the network that it was made from.

    Args:
        folder: the bundle.
        images: (N, C, s, s) uint8 of the validation split.
        target, expected: (N, E) the votes' distributions and the network's predictions.
    """
    model = Model.load(folder)
    predicted = model.predict(model.preprocessing.normalise(images))
    accuracy = [top_k_accuracy(target, rows, 1) for rows in (expected, predicted)]
    divergence = [kl_divergence(target, rows) for rows in (expected, predicted)]
    return Cost(
        accuracy[1], divergence[1], accuracy[0] - accuracy[1], divergence[1] - divergence[0]
    )


def check_bundle(folder: Path, images: NDArray[np.uint8], target: Array, expected: Array) -> Cost:
    """Measure a bundle and check that its cost is bearable.

    Raises:
        BundleDiffers: the bundle loses too much.
    """
    cost = cost_of(folder, images, target, expected)
    if not cost.bearable:
        raise BundleDiffers(
            f"the bundle predicts worse than its network: {cost}; set archive.precision to fp32"
        )
    return cost
