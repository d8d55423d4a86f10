"""Prometheus metrics of the model server.

TorchServe requires their names in model_store/metrics.yaml; a test keeps the two in sync. Its own
metrics cover requests, queue and machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from ts.metrics.metric_type_enum import MetricTypes

from moodlake.prediction import Prediction
from moodlake.serving.limits import MAX_IMAGES
from moodlake.timings import Timings


class Registry(Protocol):
    """The part of TorchServe's `context.metrics` that is used here."""

    def get_metric(self, metric_name: str, metric_type: Any = ...) -> Any:
        """Return a declared metric; its `add_or_update(value, dimension_values)` updates it."""


# Size classes instead of a histogram: those of TorchServe end at 10.
_SIZES = {1: "001", 4: "002-004", 16: "005-016", 64: "017-064", MAX_IMAGES: f"065-{MAX_IMAGES}"}


def _size(images: int) -> str:
    return next(name for most, name in _SIZES.items() if images <= most)


def emit(registry: Registry, predictions: Sequence[Prediction], timings: Timings) -> None:
    """Record one request."""

    def count(name: str, value: float, *labels: str) -> None:
        registry.get_metric(name, MetricTypes.COUNTER).add_or_update(value, list(labels))

    def observe(name: str, value: float) -> None:
        registry.get_metric(name, MetricTypes.HISTOGRAM).add_or_update(value)

    count("moodlake_requests_total", 1, _size(len(predictions)))
    statuses = Counter((item.status, item.reason or "none") for item in predictions)
    for (status, reason), number in statuses.items():
        count("moodlake_images_total", number, status, reason)
    for emotion, number in Counter(item.dominant for item in predictions if item.dominant).items():
        count("moodlake_dominant_total", number, emotion)
    count("moodlake_entropy_nats_total", sum(item.entropy or 0.0 for item in predictions))
    observe("moodlake_decode_seconds", timings.decode)
    observe("moodlake_detect_seconds", timings.detect)
    observe("moodlake_infer_seconds", timings.infer)
