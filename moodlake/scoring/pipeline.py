"""The steps of one scoring run, as the DAG calls them: plan, score a shard, publish, record.

Steps hand over small values only; a run's plan and scored rows wait as its `Staging` until they are
published.
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
from moodlake.scoring.run.staging import Run, Staging, refused_objects
from moodlake.scoring.sources.dead_letters import put_aside
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
"""In one run, so that Airflow stays quick; the oldest objects come first."""
_CHUNK_ROWS = 1_000
_SHOWN = 1000


class RunIncomplete(SetupError):
    """A run that did not publish all it planned; the message says which shards and why."""


@translate_errors
def plan_run(
    run_id: str,
    params: RunParams,
    settings: Settings,
    started_by: str = "hand",
    arrived: pa.RecordBatch | None = None,
) -> list[str]:
    """List the bucket and store shards of what this model has not scored yet; returns their ids.

    There are MAX_SHARDS at most; a longer backlog is left to the runs that follow.

    Args:
        run_id: a name of its own.
        params: what is asked.
        settings: where the parts are.
        started_by: who or what, for the record.
        arrived: objects in LISTING_SCHEMA that are new; the bucket is not listed.

    Raises:
        SourceError, ServerError: the bucket or the server is out of reach; nothing is stored.
    """
    started_at = datetime.now(UTC).isoformat()
    work, stopwatch = Staging(settings.results_uri, run_id), Stopwatch()
    work.forget_run()
    Policy.load()  # a mistake in it is told before the work, not after
    with (
        contextlib.closing(connect(settings)) as server,
        _cleared_if_it_fails(work) as shard_ids,
    ):
        model = server.identity
        keys = None if arrived is None else arrived["key"]
        known = ResultsTable(settings.results_table).known(params.bucket, model.digest, keys)
        pages = _pages(params) if arrived is None else [arrived]
        held = refused_objects(settings.results_uri, params.bucket, model.digest)
        with (
            stopwatch.step("plan"),
            Backlog(params.bucket, pages, known.objects, params.pattern, held) as backlog,
        ):
            found = _shards(backlog, params, model.digest)
            tried = _store(itertools.islice(found, MAX_SHARDS), work, shard_ids)
        run = Run(
            run_id=run_id,
            params=params,
            model=model,
            space=server.space,
            provenance=server.provenance,
            shard_ids=tuple(shard_ids),
            tried=tried,
            commits=known.seen.commits,
            listed=backlog.listed,
            waiting=backlog.objects,
            started_by=started_by,
            started_at=started_at,
            seconds=stopwatch.seconds,
            reference=server.reference,
        )
        work.write_run(run)
    cloudwatch.tell(settings, params.bucket, lambda: {cloudwatch.WAITING: run.waiting})
    return shard_ids


def _store(
    shards: Iterable[tuple[bool, Shard]], work: Staging, shard_ids: list[str]
) -> tuple[str, ...]:
    """Write shards and add their ids to a list; returns the ids of what is tried again."""
    tried = []
    for again, shard in shards:
        shard_ids.append(shard.id)
        if again:
            tried.append(shard.id)
        work.write_shard(shard)
    return tuple(tried)


@contextlib.contextmanager
def _cleared_if_it_fails(work: Staging) -> Iterator[list[str]]:
    """A list for the ids of shards that are stored; they go if the block fails."""
    shard_ids: list[str] = []
    try:
        yield shard_ids
    except BaseException:
        with contextlib.suppress(SourceError):  # the first error tells more
            work.clear_shards(shard_ids)
        raise


def _pages(params: RunParams) -> Iterable[pa.RecordBatch]:
    """The listing that is asked for."""
    if params.inventory:
        return inventory_pages(params.inventory, params.bucket, params.prefix)
    return list_pages(s3_client(), params.bucket, params.prefix)


def _shards(backlog: Backlog, params: RunParams, model_digest: str) -> Iterator[tuple[bool, Shard]]:
    """Of new objects first, and of those that are tried again in shards of their own."""
    for again in (False, True):
        oldest = backlog.oldest(MAX_SHARDS * params.shard_size, again)
        for shard in pack(oldest, model_digest=model_digest, shard_size=params.shard_size):
            yield again, shard


def plan_requested(
    run_id: str, values: Mapping[str, Any], settings: Settings, started_by: str
) -> list[str]:
    """Plan a run from the parameters of a DAG; see `plan_run` and `RunParams.of`."""
    # The plan of an earlier attempt must not be taken for this one's, even if this one fails.
    Staging(settings.results_uri, run_id).forget_run()
    bucket = values.get("bucket") or settings.images_bucket
    params = RunParams.of({**values, "bucket": bucket})
    return plan_run(run_id, params, settings, started_by)


def plan_arrivals(run_id: str, messages: Iterable[str], settings: Settings) -> list[str]:
    """As `plan_run`, of what SQS messages tell of the installation's bucket.

    What cannot be used is logged, and put aside where the installation has a queue for it: a run
    that lists the bucket finds what was meant.
    """
    found = arrivals(messages, settings.images_bucket)
    for letter in found.unused:
        log.warning("a notification was passed over: %s: %s", letter.why, letter.body[:_SHOWN])
    params = RunParams(settings.images_bucket)
    planned = plan_run(run_id, params, settings, "arrival", found.listing)
    # Last, so that it stops nothing, and a plan that is tried again puts nothing aside twice.
    if found.unused and settings.dead_letters:
        put_aside(settings.dead_letters, found.unused)
    return planned


@translate_errors
def score_shard(run_id: str, shard_id: str, settings: Settings) -> int:
    """Score one shard and stage its rows; returns how many.

    A shard that is staged already is left as it is, so that a retry costs nothing.

    Raises:
        ServerError: the server is out of reach or no longer serves the model of the plan.
    """
    work = Staging(settings.results_uri, run_id)
    run = work.read_run()
    if (staged := work.read_rows(shard_id)) is not None:
        return staged.num_rows
    shard = work.read_shard(shard_id)
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
    work.write_rows(shard_id, table, stopwatch.seconds)
    cloudwatch.tell(settings, run.params.bucket, lambda: {cloudwatch.WAITING: work.waiting(run)})
    return table.num_rows


@translate_errors
def publish(run_id: str, settings: Settings) -> dict[str, Any]:
    """Audit what was scored, commit what passes, record the run; returns the record.

    A shard that fails the gate is set aside under refused/; the others are committed all the same,
    in one commit. A few are in memory at a time.
    Publishing again after a kill, at whatever point, ends as an unbroken one would have; also when
    all was done and only nobody was told.

    Raises:
        RunIncomplete: some shards were not scored, or not let through by the gate; the message
            names the expectations they failed.
    """
    work = Staging(settings.results_uri, run_id)
    run = work.read_run()
    record = find_run(settings.runs_table, run_id, datetime.fromisoformat(run.started_at))
    if record is None:
        record = _commit(run, work, settings)
    work.clear_shards(run.shard_ids)
    if record["problem"]:
        raise RunIncomplete(record["problem"])
    return record


def _commit(run: Run, work: Staging, settings: Settings) -> dict[str, Any]:
    policy, stopwatch = Policy.load(), Stopwatch()
    publication = Publication(run, work, settings.results_table, policy)
    with stopwatch.step("publish"):
        publication.publish()
    stopwatch.add(run.seconds)
    stopwatch.add(publication.seconds)
    summary, problems = publication.summary, publication.problems
    record = run_record(run, summary, problems, stopwatch.seconds, policy.prices)
    record |= judge(run, summary.profile, settings.runs_table, policy.drift)
    publish_report(record, summary.examples, settings.results_uri, policy.report)
    record_run(settings.runs_table, record)
    cloudwatch.tell(settings, run.params.bucket, lambda: cloudwatch.of_record(record))
    # Another try of this task may have been the first.
    return find_run(settings.runs_table, run.run_id, record["started_at"]) or record
