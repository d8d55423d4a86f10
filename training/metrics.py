"""Metrics of predicted distributions against the distributions of votes.

Each takes a target and a prediction, both (N, E) with rows that sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Metric = Callable[[Array, Array], float]
_FLOOR = 1e-12
_CALIBRATION_BINS = 15


def kl_divergence(target: Array, predicted: Array) -> float:
    """Mean KL(target || predicted), in nats."""
    return float(_kl_rows(target, predicted).mean())


def jensen_shannon(target: Array, predicted: Array) -> float:
    """Mean Jensen-Shannon divergence, in nats; 0 to log 2."""
    middle = (target + predicted) / 2
    return float((_kl_rows(target, middle) + _kl_rows(predicted, middle)).mean() / 2)


def chebyshev(target: Array, predicted: Array) -> float:
    """Mean of the largest difference (Geng, "Label Distribution Learning", TKDE 2016, table 2)."""
    return float(np.abs(target - predicted).max(axis=1).mean())


def clark(target: Array, predicted: Array) -> float:
    """Mean Clark distance (Geng, 2016); emotions that are 0 in both do not count."""
    return float(np.sqrt((_relative(target, predicted) ** 2).sum(axis=1)).mean())


def canberra(target: Array, predicted: Array) -> float:
    """Mean Canberra distance (Geng, 2016); emotions that are 0 in both do not count."""
    return float(_relative(target, predicted).sum(axis=1).mean())


def cosine(target: Array, predicted: Array) -> float:
    """Mean cosine similarity (Geng, 2016), 0 to 1."""
    lengths = np.linalg.norm(target, axis=1) * np.linalg.norm(predicted, axis=1)
    return float(((target * predicted).sum(axis=1) / lengths).mean())


def intersection(target: Array, predicted: Array) -> float:
    """Mean of the common mass (Geng, 2016), 0 to 1."""
    return float(np.minimum(target, predicted).sum(axis=1).mean())


def brier(target: Array, predicted: Array) -> float:
    """Mean squared distance of the distributions; 0 to 2."""
    return float(((target - predicted) ** 2).sum(axis=1).mean())


def top_k_accuracy(target: Array, predicted: Array, k: int) -> float:
    """Share of rows whose majority emotion is among the `k` most probable ones.

    Where several emotions lead, the first of the label space counts as the majority's.
    """
    ranked = np.argsort(-predicted, axis=1, kind="stable")[:, :k]
    return float((ranked == target.argmax(axis=1)[:, None]).any(axis=1).mean())


def any_leader_accuracy(target: Array, predicted: Array) -> float:
    """Share of rows whose most probable emotion has the most votes, alone or in a tie."""
    votes = target[np.arange(len(target)), predicted.argmax(axis=1)]
    return float((votes == target.max(axis=1)).mean())


def annotator_accuracy(target: Array, predicted: Array) -> float:
    """Share of annotators who chose the most probable emotion."""
    return float(target[np.arange(len(target)), predicted.argmax(axis=1)].mean())


def pearson(target: Array, predicted: Array) -> Array:
    """Pearson correlation (E,) of each emotion's probabilities; 0 where one never varies."""
    a, b = target - target.mean(axis=0), predicted - predicted.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > _FLOOR)


def confusion_matrix(target: Array, predicted: Array) -> NDArray[np.int64]:
    """Counts (E, E): row the majority emotion, column the predicted one."""
    classes = target.shape[1]
    pairs = target.argmax(axis=1) * classes + predicted.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def calibration_bins(target: Array, predicted: Array) -> Array:
    """Rows grouped by confidence, the probability of the most probable emotion.

    Returns:
        (B, 4), for each filled bin: the mean confidence, the share of annotators who chose that
        emotion, the share of rows where it is the majority's, and the share of rows in the bin.
    """
    confidence, top = predicted.max(axis=1), predicted.argmax(axis=1)
    chosen = target[np.arange(len(target)), top]
    right = top == target.argmax(axis=1)
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    return np.array(
        [
            [values[bins == index].mean() for values in (confidence, chosen, right)]
            + [(bins == index).mean()]
            for index in np.unique(bins)
        ]
    )


def calibration_error(target: Array, predicted: Array) -> float:
    """Expected calibration error of the top class (Guo et al., ICML 2017), 15 equal bins.

    Compares confidence with the majority label. A model as uncertain as the annotators is less
    confident than the majority label is accurate.
    """
    confidence, _, right, share = calibration_bins(target, predicted).T
    return float((share * np.abs(confidence - right)).sum())


def annotator_calibration_error(target: Array, predicted: Array) -> float:
    """Expected calibration error against the share of annotators who agree with the model."""
    confidence, chosen, _, share = calibration_bins(target, predicted).T
    return float((share * np.abs(confidence - chosen)).sum())


def precision_recall(confusion: NDArray[np.int64]) -> tuple[Array, Array]:
    """Precision (E,) and recall (E,); 0 for a class that is never predicted or never occurs."""
    hits = np.diag(confusion).astype(float)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    return precision, np.divide(hits, actual, out=np.zeros_like(hits), where=actual > 0)


def f1_scores(confusion: NDArray[np.int64]) -> Array:
    """F1 (E,) of each class; 0 for a class that neither occurs nor is predicted."""
    hits = np.diag(confusion).astype(float)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)


def _kl_rows(target: Array, predicted: Array) -> Array:
    ratio = np.log(np.maximum(target, _FLOOR)) - np.log(np.maximum(predicted, _FLOOR))
    rows: Array = (target * ratio).sum(axis=1)
    return rows


def _relative(target: Array, predicted: Array) -> Array:
    """|a - b| / (a + b), element by element; 0 where both are 0."""
    total = target + predicted
    return np.divide(np.abs(target - predicted), total, out=np.zeros_like(total), where=total > 0)


METRICS: dict[str, Metric] = {
    "accuracy": lambda target, predicted: top_k_accuracy(target, predicted, 1),
    "any_leader_accuracy": any_leader_accuracy,
    "top2_accuracy": lambda target, predicted: top_k_accuracy(target, predicted, 2),
    "top3_accuracy": lambda target, predicted: top_k_accuracy(target, predicted, 3),
    "annotator_accuracy": annotator_accuracy,
    "macro_f1": lambda target, predicted: float(
        f1_scores(confusion_matrix(target, predicted)).mean()
    ),
    "kl": kl_divergence,
    "jensen_shannon": jensen_shannon,
    "chebyshev": chebyshev,
    "clark": clark,
    "canberra": canberra,
    "cosine": cosine,
    "intersection": intersection,
    "brier": brier,
    "mean_pearson": lambda target, predicted: float(pearson(target, predicted).mean()),
    "calibration_error": calibration_error,
    "annotator_calibration_error": annotator_calibration_error,
}
"""All metrics by name, in the order of reports."""
