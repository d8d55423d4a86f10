"""Promote a candidate archive to the released one, after showing both models' metrics."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlake.inference.bundle import BundleError, read_meta
from moodlake.inference.model import Model

COMPANIONS = ("MODEL_CARD.md", "figures.png")
"""What lies beside an archive and goes with it."""
_DATA = ("data_name", "data_digest")
HIGHER_IS_BETTER = ("accuracy", "top2_accuracy", "macro_f1", "mean_pearson")
LOWER_IS_BETTER = ("kl", "annotator_calibration_error", "calibration_error")


@dataclass(frozen=True)
class Comparison:
    """One metric of both models; None where a model does not state it."""

    metric: str
    released: float | None
    candidate: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the candidate falls behind the released model."""
        if self.released is None or self.candidate is None:
            return False
        if self.metric in LOWER_IS_BETTER:
            return self.candidate > self.released
        return self.candidate < self.released


def compare(candidate: Path, released: Path) -> list[Comparison]:
    """The metrics of both archives side by side, as their provenance states them.

    Raises:
        BundleError: the candidate is absent or damaged.
    """
    if not candidate.exists():
        raise BundleError(f"{candidate} is not there; `dvc repro` builds it")
    Model.load(candidate)
    new, old = _provenance(candidate), _provenance(released)
    return [
        Comparison(metric, _metric(old, metric), _metric(new, metric))
        for metric in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)
    ]


def is_better(comparisons: Iterable[Comparison]) -> bool:
    """Whether to release the candidate unasked: its distributions are nearer to the people's (KL),
    and it names no emotion worse for it on the whole (macro F1)."""
    found = {each.metric: each for each in comparisons}
    kl, macro_f1 = found["kl"], found["macro_f1"]
    if kl.candidate is None or macro_f1.candidate is None:
        return False
    measured = math.isfinite(kl.candidate) and math.isfinite(macro_f1.candidate)
    nearer = kl.released is None or kl.candidate < kl.released
    return measured and nearer and not macro_f1.is_worse


def check_comparable(candidate: Path, released: Path) -> None:
    """Refuse a candidate whose metrics say nothing about the released model.

    Raises:
        BundleError: the two were measured on different data.
    """
    new, old = _provenance(candidate), _provenance(released)
    if old and [old.get(name) for name in _DATA] != [new.get(name) for name in _DATA]:
        told = [f"{each.get('data_name')!r}" for each in (new, old)]
        what = f"{told[0]}, the released model on {told[1]}" if told[0] != told[1] else "other rows"
        raise BundleError(
            f"the candidate was measured on {what}: their metrics do not compare; use --force to "
            "release it"
        )


def promote(candidate: Path, released: Path) -> None:
    """Copy the candidate over the released archive, whole, with those COMPANIONS that it has."""
    released.parent.mkdir(parents=True, exist_ok=True)
    for name in COMPANIONS:  # those of the model that goes do not suit the one that comes
        released.with_name(name).unlink(missing_ok=True)
    companions = [(candidate.with_name(name), released.with_name(name)) for name in COMPANIONS]
    for source, target in ((candidate, released), *companions):
        if source.exists():
            part = target.with_name(target.name + ".part")
            shutil.copyfile(source, part)
            part.replace(target)


def _provenance(archive: Path) -> dict[str, Any]:
    return dict(read_meta(archive)["provenance"]) if archive.exists() else {}


def _metric(provenance: dict[str, Any], name: str) -> float | None:
    value = provenance.get("metrics", {}).get(name)
    return float(value) if isinstance(value, int | float) else None
