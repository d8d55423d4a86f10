"""Publication of a run: the shards that pass the gate, in one commit to the results table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from moodlake.scoring.run.gate import audit_shards
from moodlake.scoring.run.policy import Policy
from moodlake.scoring.run.staging import Run, Staging, digest_of, total_seconds
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.tables.commits import CommitSnapshot
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import results_schema
from moodlake.scoring.tables.summary import Summary
from moodlake.timings import Stopwatch

ROWS_AT_ONCE = 4096
"""Rows of whole shards held in memory at a time, whatever the size of the run."""


class Publication:
    """Audits the staged shards of a run and commits them to the results table.

    Args:
        run: plan of the run.
        staging: its staged shards.
        results_table: URI of the table.
        policy: thresholds of the gate, and the number of examples to keep.

    Attributes:
        summary: summary of the rows that passed the gate.
        problems: one message for each shard that was not scored or failed the gate.
    """

    def __init__(self, run: Run, staging: Staging, results_table: str, policy: Policy) -> None:
        self.summary = Summary(run.space, policy.report.examples)
        self.problems: list[str] = []
        self._run = run
        self._staging = staging
        self._table = ResultsTable(results_table)
        self._stopwatch = Stopwatch()
        self._passed: dict[str, bytes] = {}  # shard id -> digest of the audited rows
        self._gate = replace(
            policy.gate, max_broken=run.params.max_broken or policy.gate.max_broken
        )

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent on the shards that passed so far, by step."""
        return self._stopwatch.seconds

    def publish(self) -> None:
        """Audit and commit all staged shards. A repeated call adds nothing to the table.

        Raises:
            SourceError, CommitFailedError: the store failed. Committed rows remain.
        """
        run, passed = self._run, list(self._audited())
        new = [shard_id for shard_id in passed if shard_id not in run.retried]
        retried = [shard_id for shard_id in passed if shard_id in run.retried]
        planned = CommitSnapshot(run.params.bucket, run.model.digest, run.commits)
        for shard_ids, snapshot in ((new, planned), (retried, None)):
            if shard_ids:
                parts = partial(self._rows, shard_ids)
                schema = results_schema(run.space)
                self._table.commit_parts(parts, schema, shard_ids, snapshot)

    def _audited(self) -> Iterator[str]:
        """Yield the ids of the shards that pass the gate; quarantine the others."""
        run = self._run
        missing = set(run.shard_ids)
        for staged in self._groups(run.shard_ids):
            missing -= staged.keys()
            failed = audit_shards(staged, run.space, run.model.digest, self._gate)
            for shard_id, failures in failed.items():
                report = self._staging.quarantine(shard_id, staged.pop(shard_id), failures)
                reasons = "; ".join(map(str, failures))
                self.problems.append(f"shard {shard_id} failed the gate: {reasons}; see {report}")
            for shard_id, rows in staged.items():
                self._passed[shard_id] = digest_of(rows)
                self.summary.add(rows)
            self._stopwatch.add(total_seconds(staged.values()))
            yield from staged
        for shard_id in run.shard_ids:
            if shard_id in missing:
                self.problems.append(f"shard {shard_id} was not scored (see the log of its task)")

    def _groups(self, shard_ids: Iterable[str]) -> Iterator[dict[str, pa.Table]]:
        """Yield the rows of scored shards, a few shards at a time."""
        group: dict[str, pa.Table] = {}
        for shard_id in shard_ids:
            if (rows := self._staging.read_rows(shard_id)) is not None:
                group[shard_id] = rows
            if sum(map(len, group.values())) >= ROWS_AT_ONCE:
                yield group
                group = {}
                pa.default_memory_pool().release_unused()  # Arrow keeps freed memory
        if group:
            yield group

    def _rows(self, shard_ids: Iterable[str]) -> Iterator[pa.Table]:
        """Read audited rows again.

        Raises:
            SourceError: they changed after the audit.
        """
        for shard_id in shard_ids:
            rows = self._staging.read_rows(shard_id)
            if rows is None or digest_of(rows) != self._passed[shard_id]:
                raise SourceError(
                    f"the rows of shard {shard_id} changed during publication: a task attempt "
                    "presumed dead was still running; publish again"
                )
            yield rows.replace_schema_metadata()
