"""Drift: whether the images of a run differ from the training data, or from earlier runs.

Two statistics of two distributions p and q, given as counts:

- Population stability index: sum of (p - q) ln(p / q), with half an image added to each bin
  (Siddiqi, "Credit Risk Scorecards", 2006; the usual bands: below 0.1 no change, above 0.25 a
  different population). Without any change it is about (B - 1)(1/n + 1/m) for B bins and n and m
  images (Yurdakul, "Statistical properties of population stability index", 2018), so small
  samples drift by chance.
- Jensen-Shannon distance: see `moodlake.emotions.jensen_shannon_distance`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodlake.emotions import jensen_shannon_distance
from moodlake.profile import MILLIONTHS, Profile
from moodlake.scoring.run.policy import Drift
from moodlake.scoring.run.staging import Run
from moodlake.scoring.tables.runs import last_runs

MEASURES = ("emotions", "entropy", "outcomes", "brightness", "size")
"""Parts of a profile that are compared."""
TRAINING, LAST_RUNS = "training", "last_runs"
_ADDED = 0.5


@dataclass(frozen=True)
class Comparison:
    """Comparison of one measure of a run with a reference.

    Attributes:
        measure: one of MEASURES.
        against: TRAINING or LAST_RUNS.
        psi, js_distance: differences; None if there is nothing to compare.
        psi_threshold, js_threshold: thresholds of drift.
        breached: whether a difference is above its threshold; None for no verdict.
        why: reason for having no verdict.
    """

    measure: str
    against: str
    psi: float | None
    psi_threshold: float
    js_distance: float | None
    js_threshold: float
    breached: bool | None
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    run: Profile, reference: Profile | None, against: str, policy: Drift
) -> list[Comparison]:
    """Compare every measure of a run with a reference.

    Args:
        run: profile of the run.
        reference: profile of the reference; None if there is none.
        against: TRAINING or LAST_RUNS.
        policy: thresholds, and the number of images that both need for a verdict.
    """
    return [_compared(measure, run, reference, against, policy) for measure in MEASURES]


def _compared(
    measure: str, run: Profile, reference: Profile | None, against: str, policy: Drift
) -> Comparison:
    one, other = _histogram(run, measure), _histogram(reference or Profile.empty(), measure)
    images, known = (round(sum(counts.values())) for counts in (one, other))
    index = psi(one, other) if images and known else None
    distance = js_distance(one, other) if images and known else None
    why = _no_verdict(images, known, policy.min_images)
    breached = None
    if index is not None and distance is not None and not why:
        breached = index > policy.psi or distance > policy.js_distance
    return Comparison(
        *(measure, against, index, policy.psi, distance, policy.js_distance, breached, why)
    )


def _no_verdict(images: int, known: int, fewest: int) -> str | None:
    if not known:
        return "the reference lacks this measure"
    if images < fewest:
        return f"{images} images are too few; at least {fewest} are needed"
    return (
        f"the reference has {known} images; at least {fewest} are needed"
        if known < fewest
        else None
    )


def _histogram(profile: Profile, measure: str) -> dict[str, float]:
    """Return the number of images by bin; for emotions, sums of probabilities."""
    unit = MILLIONTHS if measure == "emotions" else 1
    return {name: count / unit for name, count in getattr(profile, measure).items()}


def has_drifted(comparisons: Iterable[Comparison]) -> bool | None:
    """Return whether any measure drifted; None if there is no verdict on any."""
    verdicts = [item.breached for item in comparisons if item.breached is not None]
    return any(verdicts) if verdicts else None


def psi(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the population stability index of two histograms, at least 0."""
    p, q = (counts + _ADDED for counts in _side_by_side(one, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def js_distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the Jensen-Shannon distance to base 2 of two nonempty histograms, 0 to 1."""
    p, q = (counts / counts.sum() for counts in _side_by_side(one, other))
    return float(jensen_shannon_distance(p, q))


def _side_by_side(
    one: Mapping[str, float], other: Mapping[str, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bins = sorted(set(one) | set(other))
    p, q = (np.array([counts.get(name, 0) for name in bins], float) for counts in (one, other))
    return p, q


def judge(run: Run, profile: Profile, runs_table: str, policy: Drift) -> dict[str, Any]:
    """Return the drift columns of a run's record.

    Args:
        run: plan of the run, with the model's reference.
        profile: profile of the rows that passed the gate.
        runs_table: URI of the runs table, with earlier runs.
        policy: thresholds.
    """
    since = datetime.fromisoformat(run.started_at) - timedelta(days=policy.days)
    before = last_runs(runs_table, run.params.bucket, run.model.digest, since)
    profiles = [
        Profile.from_dict(json.loads(record["profile"]))
        for record in before
        # Older versions stored no profile. A different face mode is not drift.
        if record["profile"] and json.loads(record["params"]).get("faces") == run.params.faces
    ]
    references = {
        TRAINING: Profile.from_dict(run.reference) if run.reference else None,
        LAST_RUNS: reduce(Profile.__add__, profiles, Profile.empty()),
    }
    comparisons = [
        comparison
        for against, reference in references.items()
        for comparison in compare(profile, reference, against, policy)
    ]
    return {
        "profile": json.dumps(profile.to_dict()),
        "drift": json.dumps(
            {
                "comparisons": [comparison.to_dict() for comparison in comparisons],
                "references": {
                    against: reference.to_dict() if reference else None
                    for against, reference in references.items()
                },
            }
        ),
        "drifted": has_drifted(comparisons),
    }
