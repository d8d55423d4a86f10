"""Calibrate a network's probabilities to match the votes.

Logits z become softmax(z / T) (temperature scaling, Guo et al., ICML 2017) or
softmax(w * z + b) with a weight and a bias for each emotion (vector scaling, ibid.). The fit
minimises KL(votes || model) on the validation split plus a weak prior for no change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from training.files import write_json
from training.metrics import Array, kl_divergence
from training.paths import CALIBRATION_FILE

FOLDS = 5
_PRIOR = 8.0
"""Precision of vector scaling's Gaussian prior around no change, which limits overfitting."""


@dataclass(frozen=True)
class Calibration:
    """softmax((weight * z + bias) / temperature).

    Attributes:
        temperature: above 1 flattens the distributions.
        weight, bias: (E,), or None without vector scaling.
    """

    temperature: float = 1.0
    weight: tuple[float, ...] | None = None
    bias: tuple[float, ...] | None = None

    def __call__(self, logits: Array) -> NDArray[np.float64]:
        """Turn logits (N, E) into distributions (N, E)."""
        scaled = np.asarray(logits, np.float64)
        if self.weight is not None:
            scaled = scaled * np.array(self.weight) + np.array(self.bias)
        scaled = scaled / self.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        distributions: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return distributions

    @classmethod
    def read(cls, path: Path = CALIBRATION_FILE) -> Calibration:
        """Read the calibration that the stage `calibrate` wrote."""
        values = json.loads(path.read_text("utf-8"))
        weight, bias = (values[name] and tuple(values[name]) for name in ("weight", "bias"))
        return cls(values["temperature"], weight, bias)

    def write(self, path: Path = CALIBRATION_FILE) -> None:
        write_json(
            path, {"temperature": self.temperature, "weight": self.weight, "bias": self.bias}
        )


def fit(method: str, logits: Array, target: Array) -> Calibration:
    """Fit a calibration: least KL(target || model) with a weak prior for no change.

    Args:
        method: none, temperature or vector.
        logits, target: (N, E).
    """
    if method == "none":
        return Calibration()
    temperature = _fit_temperature(logits, target)
    if method == "temperature":
        return temperature
    vector = _fit_vector(logits / temperature.temperature, target)
    weight = [value / temperature.temperature for value in vector.weight or ()]
    return Calibration(1.0, _rounded(weight), vector.bias)


def cross_fitted(method: str, logits: Array, target: Array) -> NDArray[np.float64]:
    """Calibrate by cross-fitting; returns distributions (N, E).

    Each of FOLDS parts is calibrated by a fit to the others, so that metrics on the same rows are
    unbiased.
    """
    predicted = np.empty(logits.shape, np.float64)
    part = np.random.default_rng(0).permutation(len(logits)) % FOLDS
    for fold in range(FOLDS):
        held_out = part == fold
        calibration = fit(method, logits[~held_out], target[~held_out])
        predicted[held_out] = calibration(logits[held_out])
    return predicted


def _fit_temperature(logits: Array, target: Array) -> Calibration:
    # A standard normal prior on log T: a few rows that are all correct do not drive T to 0.
    prior = 1 / len(logits)

    def loss(log_temperature: Array) -> float:
        (value,) = log_temperature
        pull = prior / 2 * value**2
        return kl_divergence(target, Calibration(float(np.exp(value)))(logits)) + float(pull)

    found = minimize(loss, np.zeros(1), method="Nelder-Mead", options={"xatol": 1e-5})
    return Calibration(round(float(np.exp(found.x[0])), 6))


def _fit_vector(logits: Array, target: Array) -> Calibration:
    classes, prior = logits.shape[1], _PRIOR / len(logits)

    def loss(values: Array) -> tuple[float, Array]:
        weight, bias = values[:classes], values[classes:]
        predicted = Calibration(1.0, tuple(weight), tuple(bias))(logits)
        pull = prior / 2 * (((weight - 1) ** 2).sum() + (bias**2).sum())
        error = (predicted - target) / len(logits)
        slopes = np.concatenate([(error * logits).sum(axis=0), error.sum(axis=0)])
        slopes += prior * np.concatenate([weight - 1, bias])
        return kl_divergence(target, predicted) + pull, slopes

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Calibration(1.0, _rounded(found[:classes]), _rounded(found[classes:]))


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
