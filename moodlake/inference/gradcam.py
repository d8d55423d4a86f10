"""Heat maps of a network's attention: Grad-CAM (Selvaraju et al., ICCV 2017), by differences.

Grad-CAM weighs each feature map A_c by the mean of dy/dA_c over its elements. That mean is the
derivative of the logit y as all elements of A_c rise together, divided by their number. Here a
central difference of the layers after the feature maps approximates it, so that the engine that
serves a network explains it, too, without a backward pass.
"""

from __future__ import annotations

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from moodlake.inference.openvino_config import on_cores

NO_FEATURE_MAPS = (
    "this model has no heat maps: its network has no feature maps, like transformers and ensembles"
)
_STEP = 2e-3
_CHUNK = 64


class GradCam:
    """The heat maps of one network.

    Args:
        network: (N, channels, size, size) -> logits (N, E) and feature maps (N, C, h, w).

    Raises:
        ValueError: the network has no feature maps, for example a transformer.
    """

    def __init__(self, network: openvino.Model) -> None:
        if len(network.outputs) < 2:
            raise ValueError(NO_FEATURE_MAPS)
        self._whole = _compile(network)
        self._head = _compile(_after_features(network))

    def __call__(self, inputs: NDArray[np.float32], emotion: int) -> NDArray[np.float32]:
        """Return the heat map (size, size), 0 to 1, of one input (channels, size, size).

        It is 0 everywhere if nothing in the input raises the emotion's logit.
        """
        features = self._whole.create_infer_request().infer({0: inputs[None]})[1].copy()
        weights = self._weights(features, emotion)
        heat = np.maximum(np.tensordot(weights, features[0], 1), 0).astype(np.float32)
        heat = np.asarray(cv2.resize(heat, inputs.shape[:0:-1]), np.float32)  # bilinear
        heat -= heat.min()
        return heat / np.float32(max(float(heat.max()), 1e-9))

    def _weights(self, features: NDArray[np.float32], emotion: int) -> NDArray[np.float32]:
        channels = features.shape[1]
        step = _STEP * max(float(np.abs(features).max()), 1e-6)
        weights = np.empty(channels, np.float32)
        head = self._head.create_infer_request()  # not shared between threads
        for start in range(0, channels, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, channels))
            raised = np.repeat(features, len(rows), axis=0)
            lowered = raised.copy()
            raised[np.arange(len(rows)), rows] += step
            lowered[np.arange(len(rows)), rows] -= step
            above, below = (
                head.infer({0: moved})[0][:, emotion].copy() for moved in (raised, lowered)
            )
            weights[rows] = above - below
        return weights


def _after_features(network: openvino.Model) -> openvino.Model:
    """Return the layers after the feature maps as a network: (N, C, h, w) -> logits (N, E)."""
    part = network.clone()
    source = part.outputs[1].get_node().input_value(0)
    start = ops.parameter(source.get_partial_shape(), np.float32, name="features")
    for reader in source.get_target_inputs():
        if reader.get_node().get_type_name() != "Result":
            reader.replace_source_output(start.output(0))
    return openvino.Model([part.outputs[0].get_node().input_value(0)], [start])


def _compile(network: openvino.Model) -> openvino.CompiledModel:
    return openvino.Core().compile_model(network, "CPU", on_cores(1))
