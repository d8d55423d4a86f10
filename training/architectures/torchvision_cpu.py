"""Make `import torchvision` work beside a CPU build of torch."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch


@cache
def prepare() -> torch.library.Library | None:
    """Call this before torchvision, or what imports it, is imported for the first time.

    torchvision's wheel registers its operators in a library that wants CUDA; without it, importing
    torchvision fails because `torchvision::nms` is not there to be described. The operators are
    declared here then, and vanish with what is returned: the cache keeps it.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    try:
        torch.ops.load_library(str(Path(spec.origin).parent / "_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
