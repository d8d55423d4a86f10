"""Make `import torchvision` work with a CPU build of torch."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch


@cache
def prepare() -> torch.library.Library | None:
    """Declare torchvision's operators; call this before the first import of torchvision.

    torchvision's wheel registers its operators in a library that needs CUDA. Without CUDA, the
    import fails because `torchvision::nms` is undefined. The declarations live as long as the
    returned library, which the cache keeps.
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
