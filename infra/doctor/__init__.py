"""Checks of an installation, local or on AWS, with a remedy for each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infra.doctor.finding import Finding, State
from infra.doctor.machine import core_count, disk, open_files, versions
from infra.doctor.services import airflow, model_server, notifications, task_quota
from infra.doctor.stores import clock, identity, images, results, tables
from moodlake.errors import UserError
from moodlake.scoring.failures import one_line
from moodlake.settings import Settings

CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "versions": versions,
    "cores": core_count,
    "disk": disk,
    "open files": open_files,
    "credentials": identity,
    "clock": clock,
    "images": images,
    "results": results,
    "tables": tables,
    "model server": model_server,
    "notifications": notifications,
    "Airflow": airflow,
    "quota": task_quota,
}


def examine(settings: Settings) -> Iterator[tuple[str, Finding]]:
    """Run every check; yield its name and finding. A check that raises stops no other."""
    for name, check in CHECKS.items():
        try:
            finding = check(settings)
        except UserError as error:
            finding = Finding(State.BAD, str(error))
        except Exception as error:  # any error of a library is a finding
            finding = Finding(State.BAD, f"{type(error).__name__}: {one_line(error)}")
        yield name, finding
