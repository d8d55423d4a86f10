"""Steps of a scoring run, as the DAGs call them: plan, score a shard, publish.

The steps exchange only small values (ids, counts). `Staging` holds the plan and the scored rows
until they are published.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from moodlake.prediction import FaceMode
from moodlake.scoring import cloudwatch
from moodlake.scoring.failures import translate_errors
from moodlake.scoring.reports.drift import judge
from moodlake.scoring.reports.run_report import publish_report
from moodlake.scoring.run.backlog import Backlog
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.policy import Policy
from moodlake.scoring.run.publication import Publication
from moodlake.scoring.run.record import run_record
from moodlake.scoring.run.scorer import score_objects, take
from moodlake.scoring.run.shards import Shard, pack
from moodlake.scoring.run.staging import Run, Staging, quarantined_objects
from moodlake.scoring.sources.dead_letters import send_dead_letters
from moodlake.scoring.sources.inventory import inventory_pages
from moodlake.scoring.sources.notifications import arrivals
from moodlake.scoring.sources.objects import SetupError, Source, SourceError
from moodlake.scoring.sources.s3 import ObjectReader, list_pages, s3_client
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.runs import find_run, record_run
from moodlake.scoring.tables.schema import to_table
from moodlake.serving.client import ServerError, connect
from moodlake.settings import Settings
from moodlake.timings import Stopwatch

log = logging.getLogger(__name__)
MAX_SHARDS = 300
"""Maximum number of shards per run; more would slow Airflow down."""
_CHUNK_ROWS = 1_000
_SHOWN = 1000


class RunIncomplete(SetupError):
    """A run did not publish all planned shards; the message names the shards and the reasons."""


@translate_errors
def plan_run(
    run_id: str,
    params: RunParams,
    settings: Settings,
    started_by: str = "hand",
    arrived: pa.RecordBatch | None = None,
) -> list[str]:
    """List the bucket, and store the objects that the model has not scored as shards.

    A run takes at most MAX_SHARDS shards, the oldest objects first, and leaves the rest to later
    runs.

    Args:
        run_id: unique id of the run.
        params: parameters of the run.
        settings: settings of the installation.
        started_by: user or trigger, for the record.
        arrived: new objects in LISTING_SCHEMA; if given, the bucket is not listed.

    Returns:
        The ids of the shards.

    Raises:
        SourceError, ServerError: the bucket or the server cannot be reached; nothing is stored.
    """
    started_at = datetime.now(UTC).isoformat()
    staging, stopwatch = Staging(settings.results_uri, run_id), Stopwatch()
    staging.delete_plan()
    Policy.load()  # reports a mistake in the policy before any work is done
    with contextlib.closing(connect(settings)) as server, _clear_on_failure(staging) as shard_ids:
        model = server.identity
        keys = None if arrived is None else arrived["key"]
        results = ResultsTable(settings.results_table)
        existing = results.existing_rows(params.bucket, model.digest, keys)
        pages = _list(params) if arrived is None else [arrived]
        with (
            stopwatch.step("plan"),
            _open_backlog(params, pages, existing.objects, model.digest, settings) as backlog,
        ):
            shards = itertools.islice(_shards(backlog, params, model.digest), MAX_SHARDS)
            retried = _store(shards, staging, shard_ids)
        run = Run(
            run_id=run_id,
            params=params,
            model=model,
            space=server.space,
            provenance=server.provenance,
            shard_ids=tuple(shard_ids),
            retried=retried,
            commits=existing.snapshot.commits,
            listed=backlog.listed,
            pending_objects=backlog.pending_objects,
            started_by=started_by,
            started_at=started_at,
            seconds=stopwatch.seconds,
            reference=server.reference,
        )
        staging.write_run(run)
    cloudwatch.emit(settings, params.bucket, lambda: {cloudwatch.REMAINING: run.pending_objects})
    return shard_ids


def _open_backlog(
    params: RunParams,
    pages: Iterable[pa.RecordBatch],
    existing: Iterable[pa.RecordBatch],
    model_digest: str,
    settings: Settings,
) -> Backlog:
    quarantined = quarantined_objects(settings.results_uri, params.bucket, model_digest)
    return Backlog(params.bucket, pages, existing, params.pattern, quarantined)


def _store(
    shards: Iterable[tuple[bool, Shard]], staging: Staging, shard_ids: list[str]
) -> tuple[str, ...]:
    """Write shards and add their ids to `shard_ids`; return the ids of retried shards."""
    retried_ids = []
    for retried, shard in shards:
        shard_ids.append(shard.id)
        if retried:
            retried_ids.append(shard.id)
        staging.write_shard(shard)
    return tuple(retried_ids)


@contextlib.contextmanager
def _clear_on_failure(staging: Staging) -> Iterator[list[str]]:
    """Provide a list for the ids of stored shards, which are deleted if the block fails."""
    shard_ids: list[str] = []
    try:
        yield shard_ids
    except BaseException:
        with contextlib.suppress(SourceError):  # the first error is the cause
            staging.clear_shards(shard_ids)
        raise


def _list(params: RunParams) -> Iterable[pa.RecordBatch]:
    """List the bucket, or read its inventory."""
    if params.inventory:
        return inventory_pages(params.inventory, params.bucket, params.prefix)
    return list_pages(s3_client(), params.bucket, params.prefix)


def _shards(backlog: Backlog, params: RunParams, model_digest: str) -> Iterator[tuple[bool, Shard]]:
    """Yield shards of new objects, then of retried ones, as pairs (is_retried, shard)."""
    for retried in (False, True):
        oldest = backlog.oldest(MAX_SHARDS * params.shard_size, retried)
        for shard in pack(oldest, model_digest=model_digest, shard_size=params.shard_size):
            yield retried, shard


def plan_requested(
    run_id: str, values: Mapping[str, Any], settings: Settings, started_by: str
) -> list[str]:
    """Plan a run from the parameters of a DAG; see `plan_run` and `RunParams.of`."""
    # The plan of an earlier attempt must not be mistaken for the plan of this attempt.
    Staging(settings.results_uri, run_id).delete_plan()
    bucket = values.get("bucket") or settings.images_bucket
    params = RunParams.of({**values, "bucket": bucket})
    return plan_run(run_id, params, settings, started_by)


def plan_arrivals(run_id: str, messages: Iterable[str], settings: Settings) -> list[str]:
    """Plan a run over the objects that SQS messages report for the installation's bucket.

    Unusable notifications are logged, and sent to the dead-letter queue if there is one. A run
    that lists the bucket finds their objects.
    """
    arrived = arrivals(messages, settings.images_bucket)
    for letter in arrived.unused:
        log.warning("notification skipped: %s: %s", letter.reason, letter.body[:_SHOWN])
    params = RunParams(settings.images_bucket)
    shard_ids = plan_run(run_id, params, settings, "arrival", arrived.listing)
    # Sent last: a failure here loses no plan, and a retry of planning sends no letter twice.
    if arrived.unused and settings.dead_letters:
        send_dead_letters(settings.dead_letters, arrived.unused)
    return shard_ids


@translate_errors
def score_shard(run_id: str, shard_id: str, settings: Settings) -> int:
    """Score one shard and stage its rows; return the number of rows.

    A shard with staged rows is not scored again, so that a retry costs nothing.

    Raises:
        ServerError: the server cannot be reached or does not serve the planned model.
    """
    staging = Staging(settings.results_uri, run_id)
    run = staging.read_run()
    if (staged := staging.read_rows(shard_id)) is not None:
        return staged.num_rows
    shard = staging.read_shard(shard_id)
    with contextlib.closing(connect(settings, version=run.model.version)) as server:
        if server.identity != run.model:
            raise ServerError(
                f"the run was planned for {run.model} but {settings.server_url} serves "
                f"{server.identity}; trigger a new run"
            )
        stopwatch = Stopwatch()
        rows = score_objects(
            Source(shard.objects, ObjectReader(run.params.bucket).read),
            server,
            run_id=run_id,
            shard_id=shard_id,
            faces=FaceMode(run.params.faces) if run.params.faces else None,
            batch_size=run.params.batch_size,
            stopwatch=stopwatch,
        )
        with stopwatch.step("score"), stopwatch.cores("task_cores"):
            chunks = [to_table(chunk, server.space) for chunk in take(rows, _CHUNK_ROWS)]
            table = pa.concat_tables(chunks)
    stopwatch.add(server.seconds)
    staging.write_rows(shard_id, table, stopwatch.seconds)
    cloudwatch.emit(
        settings, run.params.bucket, lambda: {cloudwatch.REMAINING: staging.remaining(run)}
    )
    return table.num_rows


@translate_errors
def publish(run_id: str, settings: Settings) -> dict[str, Any]:
    """Audit the scored shards, commit those that pass the gate, and record the run.

    Shards that fail the gate are quarantined under refused/; the others are committed together.
    Only a few shards are in memory at a time. Idempotent: after a kill at any point, calling it
    again gives the same result.

    Returns:
        The record of the run, as in the runs table.

    Raises:
        RunIncomplete: some shards were not scored or failed the gate; the message names them and
            the failed expectations.
    """
    staging = Staging(settings.results_uri, run_id)
    run = staging.read_run()
    record = find_run(settings.runs_table, run_id, datetime.fromisoformat(run.started_at))
    if record is None:
        record = _commit(run, staging, settings)
    staging.clear_shards(run.shard_ids)
    if record["problem"]:
        raise RunIncomplete(record["problem"])
    return record


def _commit(run: Run, staging: Staging, settings: Settings) -> dict[str, Any]:
    policy, stopwatch = Policy.load(), Stopwatch()
    publication = Publication(run, staging, settings.results_table, policy)
    with stopwatch.step("publish"):
        publication.publish()
    stopwatch.add(run.seconds)
    stopwatch.add(publication.seconds)
    summary, problems = publication.summary, publication.problems
    record = run_record(run, summary, problems, stopwatch.seconds, policy.prices)
    record |= judge(run, summary.profile, settings.runs_table, policy.drift)
    publish_report(record, summary.examples, settings.results_uri, policy.report)
    record_run(settings.runs_table, record)
    cloudwatch.emit(settings, run.params.bucket, lambda: cloudwatch.run_metrics(record))
    # Another attempt of this task may have recorded the run first.
    return find_run(settings.runs_table, run.run_id, record["started_at"]) or record
