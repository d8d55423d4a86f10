"""Metrics of predicted distributions against those of annotators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import LabelSpace

Array = NDArray[np.floating]
_FLOOR = 1e-12
_CALIBRATION_BINS = 15


def kl_divergence(target: Array, predicted: Array) -> float:
    """Mean KL(target || predicted) in nats over rows (N, E)."""
    ratio = np.log(np.maximum(target, _FLOOR)) - np.log(np.maximum(predicted, _FLOOR))
    return float((target * ratio).sum(axis=1).mean())


def top_k_accuracy(target: Array, predicted: Array, k: int) -> float:
    """Share of rows whose majority emotion is among the `k` most probable ones."""
    ranked = np.argsort(-predicted, axis=1, kind="stable")[:, :k]
    return float((ranked == target.argmax(axis=1)[:, None]).any(axis=1).mean())


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


def calibration_error(target: Array, predicted: Array) -> float:
    """Expected calibration error of the top class (Guo et al., ICML 2017), 15 equal bins."""
    confidence = predicted.max(axis=1)
    correct = predicted.argmax(axis=1) == target.argmax(axis=1)
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = [
        (bins == index).mean()
        * abs(confidence[bins == index].mean() - correct[bins == index].mean())
        for index in np.unique(bins)
    ]
    return float(sum(gaps))


def f1_scores(confusion: NDArray[np.int64]) -> Array:
    """F1 (E,) of each class; 0 for a class that neither occurs nor is predicted."""
    hits = np.diag(confusion).astype(float)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)


def summarise(target: Array, predicted: Array, space: LabelSpace) -> dict[str, Any]:
    """All metrics of one predictor, rounded to five decimals."""
    confusion = confusion_matrix(target, predicted)
    counts = confusion.sum(axis=1)
    recall = np.divide(np.diag(confusion), counts, out=np.zeros(len(space)), where=counts > 0)
    correlation = pearson(target, predicted)
    by_emotion = {
        "recall": dict(zip(space.emotions, _rounded(recall), strict=True)),
        "f1": dict(zip(space.emotions, _rounded(f1_scores(confusion)), strict=True)),
        "pearson": dict(zip(space.emotions, _rounded(correlation), strict=True)),
    }
    return {
        "accuracy": round(top_k_accuracy(target, predicted, 1), 5),
        "top2_accuracy": round(top_k_accuracy(target, predicted, 2), 5),
        "top3_accuracy": round(top_k_accuracy(target, predicted, 3), 5),
        "kl": round(kl_divergence(target, predicted), 5),
        "macro_f1": round(float(f1_scores(confusion).mean()), 5),
        "mean_pearson": round(float(correlation.mean()), 5),
        "calibration_error": round(calibration_error(target, predicted), 5),
        "by_emotion": by_emotion,
    }


def _rounded(values: Array) -> list[float]:
    return [round(float(value), 5) for value in values]
