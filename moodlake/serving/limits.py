"""How much one request to the model server may hold, and how long it may take."""

from __future__ import annotations

MAX_IMAGES = 256
"""At 10 ms a usual image they are answered within seconds."""
MAX_BYTES = 64 * 2**20
"""Of its body, and of its answer."""
MAX_SECONDS = 20.0
"""That its images may take; TorchServe ends a worker after 60 without an answer."""
MAX_EXPLAINED = 16
"""Images that it may ask to have explained: each takes longer than many predictions."""
MAX_TOP_K = 100
