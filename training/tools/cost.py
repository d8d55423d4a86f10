"""Measure each architecture: parameters, multiplications, and latency in OpenVINO.

`python -m training.tools.cost [NAME...]` prints the table of docs/measurements.md for this machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import openvino
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moodlake.inference.openvino_config import on_cores
from training.architectures import ARCHITECTURES, build, preprocessing_of
from training.packaging.bundle import plain_attention, to_openvino
from training.params import ModelParams, load_params
from training.stage import stage

_CLASSES = 8
_WARM_UP = 5
_SECONDS = 1.5


@dataclass(frozen=True)
class Cost:
    """Cost of one image at the architecture's default size.

    Attributes:
        parameters: of the network.
        macs: multiply-accumulate operations of a forward pass.
        milliseconds: median on one core in OpenVINO, fp32, batch of one.
    """

    parameters: int
    macs: int
    milliseconds: float


def measure(params: ModelParams) -> Cost:
    """Build the network with fresh weights and run it.

    Raises:
        ParamsError: the architecture is unknown.
    """
    network = build(params, _CLASSES, pretrained=False).eval()
    preprocessing = preprocessing_of(params)
    shape = (1, preprocessing.channels, preprocessing.size, preprocessing.size)
    pixels = torch.zeros(shape)
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain_attention(), plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pixels)
    compiled = openvino.Core().compile_model(
        to_openvino(network, preprocessing), "CPU", on_cores(1)
    )
    return Cost(
        sum(value.numel() for value in network.parameters()),
        counter.get_total_flops() // 2,
        _median_milliseconds(compiled, np.zeros(shape, np.float32)),
    )


def _median_milliseconds(compiled: openvino.CompiledModel, pixels: np.ndarray) -> float:
    for _ in range(_WARM_UP):
        compiled(pixels)
    times: list[float] = []
    while sum(times) < _SECONDS:
        began = time.perf_counter()
        compiled(pixels)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000


@stage("cost")
def main(names: Sequence[str]) -> None:
    """Print a Markdown table."""
    model = load_params().model
    print("| name | input | parameters | MACs | ms per image, one core |\n|---|---|---|---|---|")
    for name in names or ARCHITECTURES:
        params = replace(model, architecture=name)
        preprocessing, cost = preprocessing_of(params), measure(params)
        print(
            f"| `{name}` | {preprocessing.size} x {preprocessing.size} "
            f"x {preprocessing.channels} | {cost.parameters / 1e6:.2f} M "
            f"| {cost.macs / 1e6:,.0f} M | {cost.milliseconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
