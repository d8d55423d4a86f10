"""Upkeep: fewer and larger files, no old versions, no abandoned work.

All of it may run while runs commit, may be killed anywhere, and done again changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from moodlake.scoring.failures import translate_errors
from moodlake.scoring.reports.html import REPORTS
from moodlake.scoring.run.params import UpkeepParams
from moodlake.scoring.run.staging import REFUSED, clear_abandoned
from moodlake.scoring.sources import storage
from moodlake.scoring.tables.delta import open_table, until_won
from moodlake.settings import Settings

_SECONDS_BETWEEN_COMMITS = 60


@translate_errors
def maintain(settings: Settings, params: UpkeepParams) -> dict[str, Any]:
    """Tables first, then folders; returns what was done, in counts.

    Raises:
        SourceError: a folder or table cannot be read or written, or other writers won the race for
            a table too many times.
    """
    tables = {"results": settings.results_table, "runs": settings.runs_table}
    done: dict[str, Any] = {name: maintain_table(uri, params) for name, uri in tables.items()}
    now = datetime.now(UTC)
    done["work"] = clear_abandoned(settings.results_uri, now - timedelta(days=params.work_days))
    for folder, days in ((REFUSED, params.refused_days), (REPORTS, params.reports_days)):
        if days is not None:
            uri = storage.join(settings.results_uri, folder)
            done[folder] = _clear_older(uri, now - timedelta(days=days))
    return done


def maintain_table(uri: str, params: UpkeepParams) -> dict[str, int] | None:
    """Compact a table, delete what no version needs any more, and shorten its log.

    A checkpoint keeps the counters of commits, which are Delta transactions: they outlive the log
    files that it takes the place of.

    Returns:
        Files before and after, and how many were deleted; None if there is no such table.
    """
    table = open_table(uri)
    if table is None:
        return None
    before = len(table.file_uris())
    until_won(lambda: _compact(uri, params.target_mb * 1_000_000))
    deleted = until_won(lambda: _vacuum(uri, params.retention_hours))
    table.update_incremental()
    table.create_checkpoint()
    table.cleanup_metadata()
    return {"files_before": before, "files": len(table.file_uris()), "deleted": deleted}


def _compact(uri: str, target_size: int) -> None:
    table = open_table(uri)
    if table is not None:
        # What is committed by the way stays if a kill or a lost race ends the rest.
        table.optimize.compact(
            target_size=target_size, min_commit_interval=_SECONDS_BETWEEN_COMMITS
        )


def _vacuum(uri: str, retention_hours: int) -> int:
    """Also what killed writers left uncommitted is deleted, when it is as old."""
    table = open_table(uri)
    if table is None:
        return 0

    def vacuum(dry_run: bool) -> int:
        return len(
            table.vacuum(retention_hours, dry_run, enforce_retention_duration=False, full=True)
        )

    # A vacuum of nothing would be two more commits.
    return vacuum(dry_run=True) and vacuum(dry_run=False)


def _clear_older(uri: str, before: datetime) -> int:
    old = [file for file in storage.list_files(uri) if file.modified < before]
    for file in old:
        storage.delete(file.uri)
    return len(old)
