"""Limits of one request to the model server."""

from __future__ import annotations

MAX_IMAGES = 256
"""Images in a request; at 10 ms each, the answer takes seconds."""
MAX_BYTES = 64 * 2**20
"""Bytes of a request's body, and of its answer."""
MAX_SECONDS = 20.0
"""Seconds to score a request's images; TorchServe kills a worker after 60 without an answer."""
MAX_EXPLAINED = 16
"""Images in a request with explain=true: an explanation takes longer than many predictions."""
MAX_TOP_K = 100
"""Most emotions that top_k lists."""
