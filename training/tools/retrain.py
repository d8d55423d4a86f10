"""Retrain, and release the new model if it is better; for a DAG or cron.

`python -m training.tools.retrain` runs it in this checkout.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from moodlake.errors import UserError
from moodlake.release import Comparison, check_comparable, compare, is_better, promote
from moodlake.settings import CANDIDATE_ARCHIVE, PROJECT_ROOT, RELEASED_ARCHIVE

log = logging.getLogger(__name__)
_GRACE = 20.0


class RetrainError(UserError):
    """The pipeline failed; the message holds the end of its output."""


@dataclass(frozen=True)
class Outcome:
    """Result of a retraining.

    Attributes:
        released: whether the candidate was better and replaced the released model.
        comparisons: both models' metrics.
    """

    released: bool
    comparisons: tuple[Comparison, ...]


def retrain(
    root: Path = PROJECT_ROOT,
    candidate: Path = CANDIDATE_ARCHIVE,
    released: Path = RELEASED_ARCHIVE,
) -> Outcome:
    """Run `dvc repro` and release its model if `is_better` accepts it.

    Args:
        root: the checkout.
        candidate: the archive that the pipeline writes.
        released: the archive that is served.

    Raises:
        RetrainError: a stage failed.
        BundleError: the models were measured on different data.
    """
    _reproduce(root)
    comparisons = tuple(compare(candidate, released))
    check_comparable(candidate, released)
    better = is_better(comparisons)
    if better:
        promote(candidate, released)
    return Outcome(better, comparisons)


def _reproduce(root: Path) -> None:
    last: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                log.info("%s", line.rstrip())
                last = [*last[-9:], line.rstrip()]
            process.wait()
        except BaseException:  # also ends the stages that it started
            _end(process)
            raise
    if process.returncode:
        raise RetrainError(
            f"dvc repro failed with exit status {process.returncode} in {root}:\n" + "\n".join(last)
        )


def _end(process: subprocess.Popen[str]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(_GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        outcome = retrain()
    except UserError as error:
        sys.exit(str(error))
    for item in outcome.comparisons:
        log.info("%-30s %s -> %s", item.metric, item.released, item.candidate)
    log.info("released" if outcome.released else "kept: the candidate is no better")
