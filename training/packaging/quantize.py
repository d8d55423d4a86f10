"""A network in 8-bit integers: post-training quantisation with NNCF (Kozlov et al., 2020).

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
"""What the ranges of activations are taken from; NNCF's advice."""


def quantized(network: openvino.Model, inputs: NDArray[np.float32]) -> openvino.Model:
    """The same network with weights and activations of 8 bits where that is faster.

    What follows the feature maps that explain an answer stays as it is: it costs little time, and
    its derivative is taken in steps smaller than those of 8 bits (see moodlake.inference.gradcam).

    Args:
        network: (N, channels, size, size) -> logits (N, E), and feature maps if it has such.
        inputs: (N, channels, size, size) preprocessed training images; their activations' ranges
            become those of the integers.
    """
    import nncf  # slow to import, and few stages need it

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        made = nncf.quantize(
            network,
            nncf.Dataset([row[None] for row in inputs]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=_after_features(network), validate=False),
        )
    name_by_position(made, network.get_friendly_name())
    return made


def _after_features(network: openvino.Model) -> list[str]:
    """The names of the operations between feature maps and logits."""
    if len(network.outputs) < 2:
        return []
    waiting = [network.outputs[1].get_node().input_value(0)]
    found: dict[str, openvino.Node] = {}
    while waiting:
        for reader in waiting.pop().get_target_inputs():
            node = reader.get_node()
            if node.get_friendly_name() not in found:
                found[node.get_friendly_name()] = node
                waiting.extend(node.outputs())
    return [name for name, node in found.items() if node.get_type_name() != "Result"]
