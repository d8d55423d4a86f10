"""Report a classifier of distributions: metrics, intervals, baselines, emotions and slices.

Targets and predictions are arrays (N, E) whose rows sum to 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import NEUTRAL, LabelSpace, from_votes, without_neutral
from training.evaluation.agreement import half_against_half, one_against_the_rest
from training.files import written_whole
from training.metrics import (
    METRICS,
    Array,
    calibration_bins,
    confusion_matrix,
    f1_scores,
    pearson,
    precision_recall,
)
from training.paths import CONFUSION_FILE, RELIABILITY_FILE, SCATTER_FILE

HEADLINES = (
    "accuracy",
    "top2_accuracy",
    "macro_f1",
    "kl",
    "mean_pearson",
    "annotator_calibration_error",
    "calibration_error",
)
_OF_SLICES = tuple(name for name in HEADLINES if name != "macro_f1")
"""A slice may lack an emotion, which would count as an F1 of 0."""
_RESAMPLES = 1000
_CONCENTRATION = 1e9
"""Concentration of the Dirichlet distribution that approximates a uniform one."""
_LEAST_ROWS = 30
_ENOUGH_ROWS = 100


def build_report(
    target: Array,
    predicted: Array,
    space: LabelSpace,
    *,
    uncalibrated: Array,
    baselines: Mapping[str, Array],
    votes: NDArray[np.float64],
    raw_votes: NDArray[np.float64] | None,
    slices: Mapping[str, NDArray[np.str_]],
) -> dict[str, Any]:
    """Build the report that the model card and the web app read.

    Args:
        target, predicted: (N, E); the rows of `predicted` took no part in fitting its calibration.
        space: the label space of the columns.
        uncalibrated: (N, E) predictions before calibration.
        baselines: predictions (N, E) of constant predictors, by name.
        votes: (N, E).
        raw_votes: (N, E) votes before outlier removal; None where the data set removes none.
        slices: for each name, the value (N,) of each row.
    """
    return {
        "rows": len(target),
        "enough_rows": len(target) >= _ENOUGH_ROWS,
        "metrics": summarise(target, predicted),
        "intervals": intervals(target, predicted),
        "uncalibrated": summarise(target, uncalibrated),
        "baselines": {name: summarise(target, rows) for name, rows in baselines.items()},
        "on_raw_votes": {} if raw_votes is None else summarise(from_votes(raw_votes), predicted),
        "where_most_agree": where_most_agree(target, predicted),
        "without_neutral": apart_from_neutral(target, predicted, space),
        "people": people(votes if raw_votes is None else raw_votes),
        "by_emotion": by_emotion(target, predicted, space),
        "by_slice": by_slice(target, predicted, slices),
    }


def constant_predictors(prior: Array, rows: int) -> dict[str, Array]:
    """Return the predictions (rows, E) of two predictors that ignore the image.

    Args:
        prior: (E,) the mean distribution of the training split.
        rows: how many predictions to return.
    """
    # Not exactly uniform: otherwise the first emotion would lead in every row.
    nearly = np.random.default_rng(0).dirichlet(np.full(len(prior), _CONCENTRATION), rows)
    return {"constant_prior": np.tile(prior, (rows, 1)), "uniform": nearly}


def summarise(target: Array, predicted: Array) -> dict[str, float]:
    """Return every metric of one predictor."""
    return {name: round(metric(target, predicted), 5) for name, metric in METRICS.items()}


def intervals(
    target: Array, predicted: Array, resamples: int = _RESAMPLES
) -> dict[str, list[float]]:
    """Return the 95 % bootstrap interval of every metric."""

    def measure(target: Array, predicted: Array) -> NDArray[np.float64]:
        return np.array([metric(target, predicted) for metric in METRICS.values()])

    bounds = _bootstrap(measure, target, predicted, resamples)
    return dict(zip(METRICS, bounds.T.tolist(), strict=True))


def _bootstrap(
    measure: Callable[[Array, Array], Array], target: Array, predicted: Array, resamples: int
) -> NDArray[np.float64]:
    """Return bounds (2, ...) of 95 %: percentiles over resampled rows (bootstrap, Efron, 1979)."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(target), len(target)) for _ in range(resamples))
    values = [measure(target[rows], predicted[rows]) for rows in drawn]
    return np.asarray(np.percentile(values, [2.5, 97.5], axis=0).round(5), np.float64)


def by_emotion(
    target: Array, predicted: Array, space: LabelSpace, resamples: int = _RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Return, for each emotion: rows where it leads, precision, recall, F1, Pearson, intervals."""

    def measure(target: Array, predicted: Array) -> NDArray[np.float64]:
        confusion = confusion_matrix(target, predicted)
        precision, recall = precision_recall(confusion)
        return np.array([precision, recall, f1_scores(confusion), pearson(target, predicted)])

    names = ("precision", "recall", "f1", "pearson")
    values = measure(target, predicted).round(5)
    bounds = _bootstrap(measure, target, predicted, resamples)
    rows = np.bincount(target.argmax(axis=1), minlength=len(space))
    return {
        emotion: {
            "rows": int(rows[index]),
            **dict(zip(names, values[:, index].tolist(), strict=True)),
            "intervals": dict(zip(names, bounds[:, :, index].T.tolist(), strict=True)),
        }
        for index, emotion in enumerate(space.emotions)
    }


def by_slice(
    target: Array, predicted: Array, slices: Mapping[str, NDArray[np.str_]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the headline metrics for each slice and each of its values with enough rows."""
    return {
        name: {
            str(value): {
                "rows": int((values == value).sum()),
                **{
                    headline: round(
                        METRICS[headline](target[values == value], predicted[values == value]), 5
                    )
                    for headline in _OF_SLICES
                },
            }
            for value in np.unique(values)
            if (values == value).sum() >= _LEAST_ROWS
        }
        for name, values in slices.items()
        if len(np.unique(values)) > 1
    }


def where_most_agree(target: Array, predicted: Array) -> dict[str, float]:
    """Return rows and every metric where one emotion has more than half of the votes.

    The authors of FER+ report accuracy on these rows (Barsoum et al., ICMI 2016); they include
    votes for "unknown" and "not a face" in the total.
    """
    rows = target.max(axis=1) > 0.5
    if not rows.any():
        return {}
    return {"rows": int(rows.sum()), **summarise(target[rows], predicted[rows])}


def apart_from_neutral(target: Array, predicted: Array, space: LabelSpace) -> dict[str, float]:
    """Return every metric without the neutral class, or nothing where the space has none.

    The other emotions are rescaled to sum to 1. Rows with neutral votes only are left out.
    """
    if NEUTRAL not in space.emotions:
        return {}
    left = without_neutral(space, target)[1]
    rows = left.sum(axis=1) > 0
    return summarise(left[rows], without_neutral(space, predicted[rows])[1])


def people(votes: NDArray[np.float64]) -> dict[str, float]:
    """Return how far the annotators agree, or nothing where votes are shares instead of counts.

    Args:
        votes: (N, E) counts with outliers: without them people would seem to agree more.
    """
    counts = votes.astype(np.int64)
    if (counts != votes).any() or counts.sum(axis=1).max() < 2:
        return {}
    return {
        "one_against_the_rest": round(one_against_the_rest(counts), 5),
        "half_against_half": round(half_against_half(counts), 5),
    }


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with written_whole(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_plots(target: Array, predicted: Array, space: LabelSpace) -> None:
    """Write the tables behind the confusion matrix, reliability diagram and scatter plots."""
    names = space.emotions
    actual, guess = target.argmax(axis=1), predicted.argmax(axis=1)
    _write_csv(
        CONFUSION_FILE,
        ("actual", "predicted"),
        ((names[a], names[g]) for a, g in zip(actual, guess, strict=True)),
    )
    _write_csv(
        RELIABILITY_FILE,
        ("confidence", "annotators", "majority", "share"),
        calibration_bins(target, predicted).round(5).tolist(),
    )
    _write_csv(
        SCATTER_FILE,
        ("emotion", "people", "model"),
        (
            (name, round(float(a), 4), round(float(b), 4))
            for index, name in enumerate(names)
            for a, b in zip(target[:, index], predicted[:, index], strict=True)
        ),
    )
