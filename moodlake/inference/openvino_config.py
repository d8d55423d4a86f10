"""OpenVINO's settings for inference on the processor."""

from __future__ import annotations

from typing import Any


def on_cores(count: int) -> dict[str, Any]:
    """Return settings for `count` parallel inferences, each on one core, in full precision."""
    return {
        "INFERENCE_NUM_THREADS": count,
        "NUM_STREAMS": count,
        "INFERENCE_PRECISION_HINT": "f32",
        # Several processes would pin their threads to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
