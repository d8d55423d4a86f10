"""Metrics, agreement and calibration, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

from moodlake.emotions import LabelSpace
from training import metrics
from training.evaluation.agreement import half_against_half, one_against_the_rest
from training.evaluation.calibration import Calibration, cross_fitted, fit
from training.evaluation.report import (
    apart_from_neutral,
    by_emotion,
    by_slice,
    intervals,
    people,
    summarise,
    where_most_agree,
)


def test_metrics_by_hand() -> None:
    target = np.array([[0.5, 0.5, 0], [1, 0, 0]])
    predicted = np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    assert metrics.kl_divergence(target, predicted) == pytest.approx(
        (0.5 * np.log(2) + np.log(2)) / 2
    )
    assert metrics.top_k_accuracy(target, predicted, 1) == 0.5
    assert metrics.top_k_accuracy(target, predicted, 2) == 1
    assert metrics.any_leader_accuracy(target, predicted) == 1
    assert metrics.confusion_matrix(target, predicted).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert metrics.f1_scores(np.array([[1, 1], [0, 2]])) == pytest.approx([2 / 3, 4 / 5])
    assert metrics.calibration_error(target, predicted) == pytest.approx(0.0)
    assert metrics.pearson(target, predicted)[0] == pytest.approx(1)


def test_without_neutral_the_other_emotions_are_rescaled_and_compared() -> None:
    space = LabelSpace("three", ("joy", "neutral", "fear"))
    target = np.array([[0.5, 0.5, 0], [0, 1, 0]])  # the second is nothing but neutral
    predicted = np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]])
    found = apart_from_neutral(target, predicted, space)
    assert found["kl"] == pytest.approx(np.log(2), abs=1e-5)
    assert found["accuracy"] == 1
    assert apart_from_neutral(target, predicted, LabelSpace("x", ("joy", "awe", "fear"))) == {}


def test_rows_without_a_majority_can_be_left_out() -> None:
    target = np.array([[0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    predicted = np.array([[0.4, 0.6], [0.1, 0.9], [0.1, 0.9]])
    assert metrics.METRICS["accuracy"](target, predicted) == pytest.approx(1 / 3)
    found = where_most_agree(target, predicted)
    assert (found["rows"], found["accuracy"]) == (2, 0.5)
    assert where_most_agree(target[1:2], predicted[1:2]) == {}


def test_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    """Three in four right at a confidence of 0.9, one in two at 0.6: 0.15 and 0.1."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    right = np.array([1, 1, 1, 0, 1, 0], bool)
    predicted = np.stack([confidence, 1 - confidence], 1)
    target = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    expected = 4 / 6 * 0.15 + 2 / 6 * 0.1
    assert metrics.calibration_error(target, predicted) == pytest.approx(expected)
    assert metrics.annotator_calibration_error(target, predicted) == pytest.approx(expected)
    divided = np.where(right[:, None], [[0.7, 0.3]], [[0.4, 0.6]])
    assert metrics.calibration_error(divided, predicted) == pytest.approx(expected)
    said = 4 / 6 * (0.9 - 0.625) + 2 / 6 * (0.6 - 0.55)
    assert metrics.annotator_calibration_error(divided, predicted) == pytest.approx(said)


distributions = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(
    lambda row: np.array([row]) / sum(row)
)


@given(distributions, distributions)
def test_kl_is_zero_for_equal_distributions_and_never_negative(
    one: np.ndarray, other: np.ndarray
) -> None:
    assert metrics.kl_divergence(one, one) == pytest.approx(0, abs=1e-12)
    assert metrics.kl_divergence(one, other) >= -1e-12


@given(distributions, distributions)
def test_distances_are_those_of_scipy(one: np.ndarray, other: np.ndarray) -> None:
    a, b = one[0], other[0]
    assert metrics.chebyshev(one, other) == pytest.approx(distance.chebyshev(a, b))
    assert metrics.canberra(one, other) == pytest.approx(distance.canberra(a, b))
    assert metrics.cosine(one, other) == pytest.approx(1 - distance.cosine(a, b))
    assert metrics.brier(one, other) == pytest.approx(distance.sqeuclidean(a, b))
    assert metrics.jensen_shannon(one, other) == pytest.approx(
        distance.jensenshannon(a, b) ** 2, abs=1e-9
    )
    assert metrics.intersection(one, other) == pytest.approx(1 - np.abs(a - b).sum() / 2)


def test_absent_emotions_count_nothing_in_clark_and_canberra() -> None:
    target, predicted = np.array([[1.0, 0, 0]]), np.array([[0.5, 0.5, 0]])
    assert metrics.canberra(target, predicted) == pytest.approx(0.5 / 1.5 + 1)
    assert metrics.clark(target, predicted) == pytest.approx(np.sqrt((0.5 / 1.5) ** 2 + 1))


def test_the_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    target, predicted = rng.dirichlet(np.ones(5), 200), rng.dirichlet(np.ones(5), 200)
    actual, guess = target.argmax(1), predicted.argmax(1)
    summary = summarise(target, predicted)
    assert summary["accuracy"] == pytest.approx(accuracy_score(actual, guess), abs=1e-5)
    assert summary["macro_f1"] == pytest.approx(f1_score(actual, guess, average="macro"), abs=1e-5)
    precision, recall, f1, rows = precision_recall_fscore_support(actual, guess)
    found = by_emotion(target, predicted, LabelSpace("letters", tuple("abcde")))
    for index, emotion in enumerate("abcde"):
        assert found[emotion]["precision"] == pytest.approx(precision[index], abs=1e-5)
        assert found[emotion]["recall"] == pytest.approx(recall[index], abs=1e-5)
        assert found[emotion]["f1"] == pytest.approx(f1[index], abs=1e-5)
        assert found[emotion]["rows"] == rows[index]


def test_intervals_hold_the_value_and_narrow_with_more_rows() -> None:
    rng = np.random.default_rng(0)
    target, predicted = rng.dirichlet(np.ones(4), 400), rng.dirichlet(np.ones(4), 400)
    few = intervals(target[:50], predicted[:50], resamples=200)
    many = intervals(target, predicted, resamples=200)
    for name, value in summarise(target, predicted).items():
        low, high = many[name]
        if "calibration_error" not in name:  # its resamples lie above it: noise is never negative
            assert low <= value <= high
        assert high - low < few[name][1] - few[name][0]


def test_slices_with_too_few_rows_are_left_out() -> None:
    rng = np.random.default_rng(0)
    target = rng.dirichlet(np.ones(3), 100)
    found = by_slice(target, target, {"light": np.array(["dark"] * 90 + ["bright"] * 10)})
    assert list(found["light"]) == ["dark"]
    assert found["light"]["dark"]["rows"] == 90
    assert found["light"]["dark"]["accuracy"] == 1


def test_agreement_by_hand() -> None:
    votes = np.array([[4, 0], [3, 1], [1, 1]])
    # All four agree; three agree and one does not; each of two disagrees with the other.
    assert one_against_the_rest(votes) == pytest.approx((4 + 3 + 0) / 10)
    assert half_against_half(np.array([[6, 0, 0]])) == 1
    assert half_against_half(np.array([[1, 1]])) == 0
    assert people(np.array([[0.5, 0.5]])) == {}


logits_of = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(0, 2, (60, 4))
)


@given(logits_of, st.sampled_from(["temperature", "vector"]))
def test_calibration_never_makes_the_fit_worse(logits: np.ndarray, method: str) -> None:
    target = np.random.default_rng(1).dirichlet(np.ones(4), 60)
    before = metrics.kl_divergence(target, Calibration()(logits))
    after = metrics.kl_divergence(target, fit(method, logits, target)(logits))
    assert after <= before + 1e-6


def test_the_temperature_that_was_applied_is_found() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (5000, 5))
    target = Calibration()(logits)
    assert fit("temperature", logits * 2.5, target).temperature == pytest.approx(2.5, rel=1e-3)
    assert fit("none", logits * 2.5, target) == Calibration()


def test_vector_scaling_corrects_errors_that_a_temperature_cannot() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (800, 3))
    target = Calibration()(logits + np.array([1.0, 0, -1.0]))
    kl = {
        method: metrics.kl_divergence(target, fit(method, logits, target)(logits))
        for method in ("temperature", "vector")
    }
    assert kl["vector"] < 0.1 * kl["temperature"]


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_few_rows_do_not_make_a_model_overconfident(method: str) -> None:
    """Six rows that the network gets right, and six of which it knows nothing."""
    target = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    sure = fit(method, target * 2.0, target)(np.array([[2.0, 0, 0]])).max()
    assert 0.7 < sure < 0.99
    rng = np.random.default_rng(0)
    found = fit(method, rng.normal(size=(6, 3)), target)(np.array([[4.0, 0, 0]])).max()
    assert found > 0.6


def test_cross_fitting_does_not_see_the_row_it_calibrates() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 2, (50, 3)), rng.dirichlet(np.ones(3), 50)
    first = cross_fitted("vector", logits, target)
    target[7] = [0, 0, 1]
    assert cross_fitted("vector", logits, target)[7] == pytest.approx(first[7])
    assert first.sum(axis=1) == pytest.approx(1)
