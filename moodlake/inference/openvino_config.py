"""How OpenVINO runs networks on this machine's processor."""

from __future__ import annotations

from typing import Any


def on_cores(count: int) -> dict[str, Any]:
    """OpenVINO's settings for so many inferences at once, each on one core, in full precision."""
    return {
        "INFERENCE_NUM_THREADS": count,
        "NUM_STREAMS": count,
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned threads of several workers land on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
