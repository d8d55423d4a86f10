"""The steps of one scoring run, as the DAG calls them: plan, score a shard, publish, record.

Steps hand over small values only; a run's plan and scored rows wait under the results' own prefix
until they are published:

    <results>/work/<run id>/run.json              what was asked for, the model, the shards
    <results>/work/<run id>/<shard id>.json       what a shard holds
    <results>/work/<run id>/<shard id>.arrow      its rows, scored and not yet published
    <results>/refused/<run id>/<shard id>.arrow   its rows, if the gate refused them
"""

from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from moodlake.emotions import LabelSpace
from moodlake.faces import FaceMode
from moodlake.model import ModelIdentity
from moodlake.scoring import storage
from moodlake.scoring.inventory import SetupError, Source, list_bucket, read_object, s3_client
from moodlake.scoring.quality import audit
from moodlake.scoring.scorer import DEFAULT_BATCH_SIZE, score_objects
from moodlake.scoring.shards import DEFAULT_SHARD_SIZE, Shard, plan
from moodlake.scoring.tables import (
    ResultsTable,
    count_outcomes,
    find_run,
    record_run,
    results_schema,
    to_table,
)
from moodlake.serving.client import ServerClient, ServerError
from moodlake.settings import PROJECT_ROOT, Settings

MAX_SHARDS = 500
"""In one run; Airflow maps a task over 1024 values at most (core.max_map_length)."""

_RUN_FILE = "run.json"


class RunIncomplete(SetupError):
    """A run that did not publish all it planned; the message says which shards and why."""


@dataclass(frozen=True)
class RunParams:
    """What a person may ask of a run.

    Raises:
        ValueError: a size below 1 or an unknown face mode, named.
    """

    bucket: str
    prefix: str = ""
    batch_size: int = DEFAULT_BATCH_SIZE
    shard_size: int = DEFAULT_SHARD_SIZE
    faces: str | None = None
    """A FaceMode, or None for the model's own."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.faces is not None:
            FaceMode(self.faces)


@dataclass(frozen=True)
class Run:
    """A planned run: enough to score, publish and record it from any worker."""

    run_id: str
    params: RunParams
    model: ModelIdentity
    space: LabelSpace
    provenance: dict[str, Any]
    shard_ids: tuple[str, ...]
    started_at: str

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Run:
        values = json.loads(data)
        return cls(
            run_id=values["run_id"],
            params=RunParams(**values["params"]),
            model=ModelIdentity(**values["model"]),
            space=LabelSpace.from_dict(values["space"]),
            provenance=values["provenance"],
            shard_ids=tuple(values["shard_ids"]),
            started_at=values["started_at"],
        )


def connect(settings: Settings) -> ServerClient:
    """The model server of this installation."""
    return ServerClient(settings.server_url, settings.server_keys)


def plan_run(run_id: str, params: RunParams, settings: Settings) -> list[str]:
    """List the bucket and store shards of what this model has not scored yet; returns their ids.

    There are MAX_SHARDS at most; a longer backlog is left to the runs that follow.

    Raises:
        SourceError, ServerError: the bucket or the server is out of reach; nothing is stored.
    """
    started_at = datetime.now(UTC).isoformat()
    server = connect(settings)
    model = server.identity
    done = ResultsTable(settings.results_table).done(params.bucket, model.digest)
    objects = list_bucket(s3_client(), params.bucket, params.prefix)
    shards = plan(objects, model_digest=model.digest, done=done, shard_size=params.shard_size)
    shard_ids: list[str] = []
    try:
        for shard in itertools.islice(shards, MAX_SHARDS):
            shard_ids.append(shard.id)
            storage.write_bytes(_work_uri(settings, run_id, f"{shard.id}.json"), shard.to_json())
    except BaseException:
        for shard_id in shard_ids:
            storage.delete(_work_uri(settings, run_id, f"{shard_id}.json"))
        raise
    run = Run(run_id, params, model, server.space, server.provenance, tuple(shard_ids), started_at)
    storage.write_bytes(_work_uri(settings, run_id, _RUN_FILE), run.to_json())
    return shard_ids


def _read_run(run_id: str, settings: Settings) -> Run:
    data = storage.read_bytes(_work_uri(settings, run_id, _RUN_FILE))
    if data is None:
        raise SetupError(f"run {run_id} has no plan: planning failed, or it is published already")
    return Run.from_json(data)


def score_shard(run_id: str, shard_id: str, settings: Settings) -> int:
    """Score one shard and stage its rows; returns how many.

    A shard that is staged already is left as it is, so that a retry costs nothing.

    Raises:
        ServerError: the server is out of reach or no longer serves the model of the plan.
    """
    run = _read_run(run_id, settings)
    staged = _work_uri(settings, run_id, f"{shard_id}.arrow")
    data = storage.read_bytes(staged)
    if data is not None:
        return _from_bytes(data).num_rows
    planned = storage.read_bytes(_work_uri(settings, run_id, f"{shard_id}.json"))
    if planned is None:
        raise SetupError(f"the plan of shard {shard_id} is gone; trigger a new run")
    shard = Shard.from_json(planned)
    server = connect(settings)
    if server.identity != run.model:
        raise ServerError(
            f"the run was planned for {run.model} but {settings.server_url} serves "
            f"{server.identity}; trigger a new run"
        )
    client = s3_client()
    rows = score_objects(
        Source(shard.objects, lambda item: read_object(client, item)),
        server,
        run_id=run_id,
        shard_id=shard_id,
        faces=FaceMode(run.params.faces) if run.params.faces else None,
        batch_size=run.params.batch_size,
    )
    table = to_table(list(rows), server.space)
    storage.write_bytes(staged, _to_bytes(table))
    return table.num_rows


def publish(run_id: str, settings: Settings) -> dict[str, Any]:
    """Audit what was scored, commit what passes, record the run; returns the record.

    A shard that fails the gate is set aside under refused/; the others are committed all the same.
    Publishing again after a kill, at whatever point, ends as an unbroken one would have.

    Raises:
        RunIncomplete: some shards were not scored, or not let through by the gate; the message
            names the expectations they failed.
    """
    run = _read_run(run_id, settings)
    record = find_run(settings.runs_table, run_id, datetime.fromisoformat(run.started_at))
    if record is None:
        record = _commit(run, settings)
    leftovers = [f"{shard}.{kind}" for shard in run.shard_ids for kind in ("json", "arrow")]
    for name in [*leftovers, _RUN_FILE]:
        storage.delete(_work_uri(settings, run_id, name))
    if record["problem"]:
        raise RunIncomplete(record["problem"])
    return record


def _commit(run: Run, settings: Settings) -> dict[str, Any]:
    passed: dict[str, pa.Table] = {}
    problems = []
    for shard_id in run.shard_ids:
        data = storage.read_bytes(_work_uri(settings, run.run_id, f"{shard_id}.arrow"))
        if data is None:
            problems.append(f"shard {shard_id} was not scored (its task's log tells why)")
        elif failures := audit(_from_bytes(data), run.space, run.model.digest):
            aside = storage.join(settings.results_uri, "refused", run.run_id, f"{shard_id}.arrow")
            storage.write_bytes(aside, data)
            reasons = "; ".join(map(str, failures))
            problems.append(f"shard {shard_id} failed the gate: {reasons}; its rows are in {aside}")
        else:
            passed[shard_id] = _from_bytes(data)
    rows = pa.concat_tables([results_schema(run.space).empty_table(), *passed.values()])
    if passed:
        ResultsTable(settings.results_table).commit(rows, list(passed))
    record = _record(run, rows, problems)
    record_run(settings.runs_table, record)
    return record


def _record(run: Run, rows: pa.Table, problems: list[str]) -> dict[str, Any]:
    scored, rejected, reasons = count_outcomes(rows)
    started_at, ended_at = datetime.fromisoformat(run.started_at), datetime.now(UTC)
    problem = None
    if problems:
        problem = (
            f"{len(problems)} of {len(run.shard_ids)} shards were not published; {problems[0]}. "
            "What passed is in the table; a new run takes up the rest"
        )
    return {
        "run_id": run.run_id,
        "bucket": run.params.bucket,
        "prefix": run.params.prefix,
        "model_name": run.model.name,
        "model_version": run.model.version,
        "model_digest": run.model.digest,
        "provenance": json.dumps(run.provenance),
        "git_commit": _git_commit(),
        "params": json.dumps(asdict(run.params)),
        "objects": rows.num_rows,
        "shards": len(run.shard_ids),
        "scored": scored,
        "rejected": rejected,
        "reasons": json.dumps(reasons),
        "problem": problem,
        "started_at": started_at,
        "ended_at": ended_at,
        "images_per_second": rows.num_rows / (ended_at - started_at).total_seconds(),
    }


def _git_commit() -> str | None:
    """The commit of the code that runs, where it runs from a checkout."""
    try:
        command = ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _work_uri(settings: Settings, run_id: str, name: str) -> str:
    return storage.join(settings.results_uri, "work", run_id, name)


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_file(data).read_all()
