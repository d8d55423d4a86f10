"""Upkeep: compaction of the tables, and deletion of old files and abandoned runs.

It may run while runs commit, survives a kill at any point, and changes nothing when repeated.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from moodlake.scoring.failures import translate_errors
from moodlake.scoring.reports.html import REPORTS
from moodlake.scoring.run.params import UpkeepParams
from moodlake.scoring.run.staging import QUARANTINE, clear_abandoned
from moodlake.scoring.sources import storage
from moodlake.scoring.tables.delta import open_table, retry_conflicts
from moodlake.settings import Settings

_SECONDS_BETWEEN_COMMITS = 60


@translate_errors
def maintain(settings: Settings, params: UpkeepParams) -> dict[str, Any]:
    """Compact and clean the tables, then delete old files of the folders; return counts of both.

    Raises:
        SourceError: a folder or table cannot be read or written, or other writers kept committing
            to a table first.
    """
    tables = {"results": settings.results_table, "runs": settings.runs_table}
    counts: dict[str, Any] = {name: maintain_table(uri, params) for name, uri in tables.items()}
    now = datetime.now(UTC)
    counts["work"] = clear_abandoned(settings.results_uri, now - timedelta(days=params.work_days))
    for folder, days in ((QUARANTINE, params.refused_days), (REPORTS, params.reports_days)):
        if days is not None:
            uri = storage.join(settings.results_uri, folder)
            counts[folder] = _clear_older(uri, now - timedelta(days=days))
    return counts


def maintain_table(uri: str, params: UpkeepParams) -> dict[str, int] | None:
    """Compact a table, delete files that no version needs, and shorten its log.

    The checkpoint keeps the counters of commits, which are Delta transactions, when it replaces
    log files.

    Returns:
        Number of files before and after, and of deleted files; None if there is no such table.
    """
    table = open_table(uri)
    if table is None:
        return None
    before = len(table.file_uris())
    retry_conflicts(lambda: _compact(uri, params.target_mb * 1_000_000))
    deleted = retry_conflicts(lambda: _vacuum(uri, params.retention_hours))
    table.update_incremental()
    table.create_checkpoint()
    table.cleanup_metadata()
    return {"files_before": before, "files": len(table.file_uris()), "deleted": deleted}


def _compact(uri: str, target_size: int) -> None:
    table = open_table(uri)
    if table is not None:
        # Intermediate commits remain if a kill or a conflict ends the rest.
        table.optimize.compact(
            target_size=target_size, min_commit_interval=_SECONDS_BETWEEN_COMMITS
        )


def _vacuum(uri: str, retention_hours: int) -> int:
    """Delete old files, including those that killed writers did not commit."""
    table = open_table(uri)
    if table is None:
        return 0

    def vacuum(dry_run: bool) -> int:
        return len(
            table.vacuum(retention_hours, dry_run, enforce_retention_duration=False, full=True)
        )

    # A vacuum that deletes nothing would still add two commits.
    return vacuum(dry_run=True) and vacuum(dry_run=False)


def _clear_older(uri: str, before: datetime) -> int:
    old = [file for file in storage.list_files(uri) if file.modified < before]
    for file in old:
        storage.delete(file.uri)
    return len(old)
