"""Quantise a network to 8 bits after training, with NNCF (Kozlov et al., 2020).

Paper: "Neural Network Compression Framework for fast model inference", arXiv:2002.08679.
"""

from __future__ import annotations

import contextlib
import io
import logging

import numpy as np
import openvino
from numpy.typing import NDArray

from training.packaging.bundle import name_by_position

CALIBRATION_IMAGES = 300
"""Images that determine the ranges of activations; the default of NNCF."""


def quantized(network: openvino.Model, inputs: NDArray[np.float32]) -> openvino.Model:
    """Quantise weights and activations where that is faster.

    Layers after the feature maps of heat maps stay floats: they cost little time, and Grad-CAM
    takes differences smaller than 8 bits resolve (see moodlake.inference.gradcam).

    Args:
        network: (N, channels, size, size) -> logits (N, E), and feature maps if any.
        inputs: (N, channels, size, size) preprocessed training images, which determine the ranges
            of the integers.
    """
    import nncf  # slow to import

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        quantised = nncf.quantize(
            network,
            nncf.Dataset([row[None] for row in inputs]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=_after_features(network), validate=False),
        )
    name_by_position(quantised, network.get_friendly_name())
    return quantised


def _after_features(network: openvino.Model) -> list[str]:
    """Return the names of the operations between feature maps and logits."""
    if len(network.outputs) < 2:
        return []
    remaining = [network.outputs[1].get_node().input_value(0)]
    found: dict[str, openvino.Node] = {}
    while remaining:
        for reader in remaining.pop().get_target_inputs():
            node = reader.get_node()
            if node.get_friendly_name() not in found:
                found[node.get_friendly_name()] = node
                remaining.extend(node.outputs())
    return [name for name, node in found.items() if node.get_type_name() != "Result"]
