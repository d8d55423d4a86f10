"""How a run's staged shards get into the table: what passes the gate, in one commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from moodlake.scoring.run.gate import refused
from moodlake.scoring.run.policy import Policy
from moodlake.scoring.run.staging import Run, Staging, digest_of, total_seconds
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.tables.commits import CommitSnapshot
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import results_schema
from moodlake.scoring.tables.summary import Summary
from moodlake.timings import Stopwatch

ROWS_AT_ONCE = 4096
"""Of whole shards: memory grows with it, and not with the run."""


class Publication:
    """A run's shards on their way into the table of results.

    Args:
        run: as it was planned.
        work: where its shards are staged.
        results_table: URI of the table.
        policy: what the gate lets through, and how many examples are kept.

    Attributes:
        summary: of the rows that passed the gate.
        problems: of the shards that were not scored or did not pass, in words.
    """

    def __init__(self, run: Run, work: Staging, results_table: str, policy: Policy) -> None:
        self.summary = Summary(run.space, policy.report.examples)
        self.problems: list[str] = []
        self._run = run
        self._work = work
        self._table = ResultsTable(results_table)
        self._stopwatch = Stopwatch()
        self._passed: dict[str, bytes] = {}  # shards, and digests of what was audited
        self._gate = replace(
            policy.gate, max_broken=run.params.max_broken or policy.gate.max_broken
        )

    @property
    def seconds(self) -> dict[str, float]:
        """What the shards that passed took so far, by step."""
        return self._stopwatch.seconds

    def publish(self) -> None:
        """Audit and commit all that is staged. Doing so again adds nothing to the table.

        Raises:
            SourceError, CommitFailedError: the store failed; what was committed stays.
        """
        run, passed = self._run, list(self._audited())
        new = [shard_id for shard_id in passed if shard_id not in run.tried]
        again = [shard_id for shard_id in passed if shard_id in run.tried]
        seen = CommitSnapshot(run.params.bucket, run.model.digest, run.commits)
        for shard_ids, when in ((new, seen), (again, None)):
            if shard_ids:
                parts = partial(self._rows, shard_ids)
                schema = results_schema(run.space)
                self._table.commit_parts(parts, schema, shard_ids, when)

    def _audited(self) -> Iterator[str]:
        """The ids of the shards that pass the gate; the others are set aside."""
        run = self._run
        missing = set(run.shard_ids)
        for staged in self._groups(run.shard_ids):
            missing -= staged.keys()
            failed = refused(staged, run.space, run.model.digest, self._gate)
            for shard_id, failures in failed.items():
                aside = self._work.set_aside(shard_id, staged.pop(shard_id), failures)
                told = "; ".join(map(str, failures))
                self.problems.append(f"shard {shard_id} failed the gate: {told}; see {aside}")
            for shard_id, rows in staged.items():
                self._passed[shard_id] = digest_of(rows)
                self.summary.add(rows)
            self._stopwatch.add(total_seconds(staged.values()))
            yield from staged
        for shard_id in run.shard_ids:
            if shard_id in missing:
                self.problems.append(f"shard {shard_id} was not scored (its task's log tells why)")

    def _groups(self, shard_ids: Iterable[str]) -> Iterator[dict[str, pa.Table]]:
        """The rows of a few shards at a time, of those that were scored."""
        group: dict[str, pa.Table] = {}
        for shard_id in shard_ids:
            if (rows := self._work.read_rows(shard_id)) is not None:
                group[shard_id] = rows
            if sum(map(len, group.values())) >= ROWS_AT_ONCE:
                yield group
                group = {}
                pa.default_memory_pool().release_unused()  # Arrow keeps what was freed
        if group:
            yield group

    def _rows(self, shard_ids: Iterable[str]) -> Iterator[pa.Table]:
        """What was audited, read anew.

        Raises:
            SourceError: it is another by now.
        """
        for shard_id in shard_ids:
            rows = self._work.read_rows(shard_id)
            if rows is None or digest_of(rows) != self._passed[shard_id]:
                raise SourceError(
                    f"the rows of shard {shard_id} changed while they were published: a try of "
                    "its task that was taken for dead was not; publish again"
                )
            yield rows.replace_schema_metadata()
