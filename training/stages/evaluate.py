"""Stage `evaluate`: the calibrated network on the validation split, beside constant predictors.

Writes a short metrics.json for `dvc metrics diff`, a report with intervals, emotions and slices,
and what `dvc plots` draws. Every number is of rows that the calibration was not fitted to.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import NEUTRAL, LabelSpace, from_votes, without_neutral
from training.data_set.samples import load_raw_votes, load_slices, load_targets, read_facts
from training.evaluation.agreement import half_against_half, one_against_the_rest
from training.evaluation.calibration import Calibration, cross_fitted
from training.evaluation.metrics import (
    METRICS,
    Array,
    calibration_bins,
    confusion_matrix,
    f1_scores,
    pearson,
    precision_recall,
)
from training.files import write_json, written_whole
from training.params import load_params
from training.paths import CONFUSION_FILE, LOGITS_FILE, METRICS_FILE, PLOTS_FOLDER, REPORT_FILE
from training.stage import stage

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
"""Of the Dirichlet distribution that stands for uniform: the higher, the nearer."""
_LEAST_ROWS = 30
_ENOUGH_ROWS = 100


def summarise(target: Array, predicted: Array) -> dict[str, float]:
    """Every metric of one predictor."""
    return {name: round(metric(target, predicted), 5) for name, metric in METRICS.items()}


def intervals(
    target: Array, predicted: Array, resamples: int = _RESAMPLES
) -> dict[str, list[float]]:
    """The 95 % interval of every metric."""

    def measure(target: Array, predicted: Array) -> NDArray[np.float64]:
        return np.array([metric(target, predicted) for metric in METRICS.values()])

    bounds = _bootstrap(measure, target, predicted, resamples)
    return dict(zip(METRICS, bounds.T.tolist(), strict=True))


def _bootstrap(
    measure: Callable[[Array, Array], Array], target: Array, predicted: Array, resamples: int
) -> NDArray[np.float64]:
    """Bounds (2, ...) of 95 %: percentiles over rows drawn with replacement (Efron, 1979)."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(target), len(target)) for _ in range(resamples))
    values = [measure(target[rows], predicted[rows]) for rows in drawn]
    return np.asarray(np.percentile(values, [2.5, 97.5], axis=0).round(5), np.float64)


def by_emotion(
    target: Array, predicted: Array, space: LabelSpace, resamples: int = _RESAMPLES
) -> dict[str, dict[str, Any]]:
    """For each emotion: rows where it leads, precision, recall, F1, Pearson, and intervals."""

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
    target: Array, predicted: Array, slices: dict[str, NDArray[np.str_]]
) -> dict[str, dict[str, dict[str, float]]]:
    """The headline metrics for each value, with rows enough, of each slice that divides them."""
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
    """Rows and every metric where one emotion has more than half of the votes.

    The authors of FER+ tell accuracy of such rows (Barsoum et al., ICMI 2016), where they count the
    votes for "unknown" and "not a face" among all.
    """
    rows = target.max(axis=1) > 0.5
    if not rows.any():
        return {}
    return {"rows": int(rows.sum()), **summarise(target[rows], predicted[rows])}


def apart_from_neutral(target: Array, predicted: Array, space: LabelSpace) -> dict[str, float]:
    """Every metric of the other emotions among themselves; empty where there is no neutral.

    Rows where people read nothing else are left out.
    """
    if NEUTRAL not in space.emotions:
        return {}
    left = without_neutral(space, target)[1]
    rows = left.sum(axis=1) > 0
    return summarise(left[rows], without_neutral(space, predicted[rows])[1])


def people(votes: NDArray[np.float64]) -> dict[str, float]:
    """How far the annotators agree; empty where there are shares instead of counts.

    Args:
        votes: (N, E), those of outliers among them: without them people would seem to agree more.
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
    """Confusion matrix, reliability diagram, and each emotion's probabilities as a scatter."""
    names = space.emotions
    actual, guess = target.argmax(axis=1), predicted.argmax(axis=1)
    _write_csv(
        CONFUSION_FILE,
        ("actual", "predicted"),
        ((names[a], names[g]) for a, g in zip(actual, guess, strict=True)),
    )
    _write_csv(
        PLOTS_FOLDER / "reliability.csv",
        ("confidence", "annotators", "majority", "share"),
        calibration_bins(target, predicted).round(5).tolist(),
    )
    _write_csv(
        PLOTS_FOLDER / "scatter.csv",
        ("emotion", "people", "model"),
        (
            (name, round(float(a), 4), round(float(b), 4))
            for index, name in enumerate(names)
            for a, b in zip(target[:, index], predicted[:, index], strict=True)
        ),
    )


@stage("evaluate")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    space = facts.space
    target, votes = load_targets("valid")
    train_target, _ = load_targets("train")
    logits = np.load(LOGITS_FILE)
    predicted = cross_fitted(params.calibrate.method, logits, target)
    constants = {
        "constant_prior": np.tile(train_target.mean(axis=0), (len(target), 1)),
        # Not exactly uniform, lest the emotion that stands first should lead everywhere.
        "uniform": np.random.default_rng(0).dirichlet(
            np.full(len(space), _CONCENTRATION), len(target)
        ),
    }
    metrics, raw = summarise(target, predicted), load_raw_votes("valid")
    baselines = {name: summarise(target, rows) for name, rows in constants.items()}
    bounds = intervals(target, predicted)
    agreement = people(votes if raw is None else raw)
    most_agree = where_most_agree(target, predicted)
    on_raw_votes = {} if raw is None else summarise(from_votes(raw), predicted)
    report = {
        "rows": len(target),
        "enough_rows": len(target) >= _ENOUGH_ROWS,
        "metrics": metrics,
        "intervals": bounds,
        "uncalibrated": summarise(target, Calibration()(logits)),
        "baselines": baselines,
        "on_raw_votes": on_raw_votes,
        "where_most_agree": most_agree,
        "without_neutral": apart_from_neutral(target, predicted, space),
        "people": agreement,
        "by_emotion": by_emotion(target, predicted, space),
        "by_slice": by_slice(target, predicted, load_slices("valid")),
    }
    write_json(REPORT_FILE, report)
    write_json(METRICS_FILE, {name: metrics[name] for name in HEADLINES})
    write_plots(target, predicted, space)
    if len(target) < _ENOUGH_ROWS:
        print(f"only {len(target)} validation images: these numbers say little")
    for name in HEADLINES:
        low, high = bounds[name]
        beside = ", ".join(f"{key} {values[name]:.4f}" for key, values in baselines.items())
        print(f"{name} {metrics[name]:.4f} [{low:.4f}, {high:.4f}] ({beside})")
    if most_agree:
        print(f"where most agree, {most_agree['rows']} rows: accuracy {most_agree['accuracy']:.4f}")
    for name, value in on_raw_votes.items():
        if name in HEADLINES:
            print(f"with outliers' votes left in, {name}: {value:.4f}")
    for name, value in agreement.items():
        print(f"people, {name}: {value:.4f}")


if __name__ == "__main__":
    main()
