"""Compare a candidate archive with the released one, and promote it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlake.inference.bundle import BundleError, read_meta
from moodlake.inference.model import Model
from moodlake.settings import CANDIDATE_ARCHIVE, PROJECT_ROOT

COMPANIONS = ("MODEL_CARD.md", "figures.png")
"""Files beside an archive that are released with it, as its weights (.safetensors) are."""
_WEIGHTS = ".safetensors"
_DATA = ("data_name", "data_digest")
HIGHER_IS_BETTER = ("accuracy", "top2_accuracy", "macro_f1", "mean_pearson")
LOWER_IS_BETTER = ("kl", "annotator_calibration_error", "calibration_error")


@dataclass(frozen=True)
class Comparison:
    """One metric of both models; None where a model lacks it."""

    metric: str
    released: float | None
    candidate: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse than the released model."""
        if self.released is None or self.candidate is None:
            return False
        if self.metric in LOWER_IS_BETTER:
            return self.candidate > self.released
        return self.candidate < self.released


def compare(candidate: Path, released: Path) -> list[Comparison]:
    """Return the metrics of both archives, from their provenance.

    Raises:
        BundleError: the candidate is absent or damaged.
    """
    if not candidate.exists():
        built = CANDIDATE_ARCHIVE.relative_to(PROJECT_ROOT)
        raise BundleError(f"{candidate} does not exist; `dvc repro` builds {built}")
    Model.load(candidate)
    new, old = _provenance(candidate), _provenance(released)
    return [
        Comparison(metric, _metric(old, metric), _metric(new, metric))
        for metric in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)
    ]


def is_better(comparisons: Iterable[Comparison]) -> bool:
    """Whether to release the candidate without asking: a lower KL and no lower macro F1."""
    found = {each.metric: each for each in comparisons}
    kl, macro_f1 = found["kl"], found["macro_f1"]
    if kl.candidate is None or macro_f1.candidate is None:
        return False
    measured = math.isfinite(kl.candidate) and math.isfinite(macro_f1.candidate)
    nearer = kl.released is None or kl.candidate < kl.released
    return measured and nearer and not macro_f1.is_worse


def check_comparable(candidate: Path, released: Path) -> None:
    """Check that both models were measured on the same data.

    Raises:
        BundleError: they were not, so that their metrics do not compare.
    """
    new, old = _provenance(candidate), _provenance(released)
    if old and [old.get(name) for name in _DATA] != [new.get(name) for name in _DATA]:
        names = [f"{each.get('data_name')!r}" for each in (new, old)]
        data = "other rows"
        if names[0] != names[1]:
            data = f"{names[0]}, the released model on {names[1]}"
        raise BundleError(
            f"the candidate was measured on {data}, so their metrics do not compare; "
            "--force releases it"
        )


def promote(candidate: Path, released: Path) -> None:
    """Replace the released archive by the candidate, with its weights and COMPANIONS.

    Companions of the old model that the candidate lacks are removed.
    """
    released.parent.mkdir(parents=True, exist_ok=True)
    companions = [(candidate.with_name(name), released.with_name(name)) for name in COMPANIONS]
    companions.append((candidate.with_suffix(_WEIGHTS), released.with_suffix(_WEIGHTS)))
    for _, target in companions:
        target.unlink(missing_ok=True)
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
