"""Retrain, compare with the released model, and release what is better: what a DAG or cron runs.

`python -m training.tools.retrain` does it for this checkout.
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
    """The pipeline did not run to its end; the message has the end of what it said."""


@dataclass(frozen=True)
class Outcome:
    """What became of a retraining.

    Attributes:
        released: the candidate is better and took the released model's place.
        comparisons: both models' metrics.
    """

    released: bool
    comparisons: tuple[Comparison, ...]


def retrain(
    root: Path = PROJECT_ROOT,
    candidate: Path = CANDIDATE_ARCHIVE,
    released: Path = RELEASED_ARCHIVE,
) -> Outcome:
    """Run `dvc repro` in a process of its own and release its model if `is_better` says so.

    Stages whose inputs have not changed are not run again.

    Args:
        root: the checkout, with params.yaml as it is to be trained.
        candidate: the archive that the pipeline writes.
        released: the archive that is served.

    Raises:
        RetrainError: a stage failed.
        BundleError: the two models were not measured on the same data.
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
        except BaseException:  # the stages that it started, too
            _end(process)
            raise
    if process.returncode:
        raise RetrainError(
            f"dvc repro ended with {process.returncode} in {root}:\n" + "\n".join(last)
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
