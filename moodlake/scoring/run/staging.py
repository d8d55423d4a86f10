"""Staged files of a run: its plan, its shards and their rows, until they are published.

<results>/work/<run id>/run.json              the plan: parameters, model, shard ids; kept
<results>/work/<run id>/<shard id>.json       the objects of a shard
<results>/work/<run id>/<shard id>.arrow      its rows, scored and not yet published
<results>/refused/<shard id>.arrow            its rows, if the quality gate quarantined them
<results>/refused/<shard id>.json             the expectations that they failed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moodlake.emotions import LabelSpace
from moodlake.prediction import ModelIdentity
from moodlake.scoring.run.gate import Failure
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.shards import Shard
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.objects import SetupError
from moodlake.timings import Stopwatch

WORK = "work"
"""Folder of staged runs, beside the tables."""
QUARANTINE = "refused"
"""Folder of shards that failed the quality gate, beside the tables."""
_RUN_FILE = "run.json"
_SECONDS = b"moodlake.seconds"
_DIGEST = b"moodlake.sha256"
_STORED_NAMES = {"pending_objects": "waiting", "retried": "tried"}
"""Fields of `Run` that run.json stores under another name."""


@dataclass(frozen=True)
class Run:
    """The plan of a run: all that a worker needs to score, publish and record it."""

    run_id: str
    params: RunParams
    model: ModelIdentity
    space: LabelSpace
    provenance: dict[str, Any]
    shard_ids: tuple[str, ...]
    retried: tuple[str, ...]
    """Ids of the shards whose objects an earlier run took: these may have a row already."""
    commits: int
    """Number of commits of this bucket and model at planning time."""
    listed: int
    """Number of objects found."""
    pending_objects: int
    """Number of listed objects without a row by this model. A run may take fewer."""
    started_by: str
    started_at: str
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of planning, by step."""
    reference: dict[str, Any] | None = None
    """The model's profile of its validation images; see `Model.reference`."""

    def to_json(self) -> bytes:
        values = asdict(self)
        return json.dumps({_STORED_NAMES.get(name, name): values[name] for name in values}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Run:
        """Read a plan.

        Raises:
            SetupError: an incompatible version of moodlake wrote it.
        """
        values = json.loads(data)
        try:
            values |= {name: values.pop(stored) for name, stored in _STORED_NAMES.items()}
            values |= {
                "params": RunParams(**values["params"]),
                "model": ModelIdentity(**values["model"]),
                "space": LabelSpace.from_dict(values["space"]),
                "shard_ids": tuple(values["shard_ids"]),
                "retried": tuple(values["retried"]),
            }
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise SetupError(
                f"an incompatible version of moodlake planned this run ({error}); trigger a new run"
            ) from error


class Staging:
    """Staged files of one run.

    Args:
        results_uri: folder or prefix of the installation's results.
        run_id: id of the run.
    """

    def __init__(self, results_uri: str, run_id: str) -> None:
        self._results_uri = results_uri
        self._run_id = run_id

    def write_run(self, run: Run) -> None:
        storage.write_bytes(self._uri(_RUN_FILE), run.to_json())

    def read_run(self) -> Run:
        """Read the plan.

        Raises:
            SetupError: there is none, or an incompatible version of moodlake wrote it.
        """
        data = storage.read_bytes(self._uri(_RUN_FILE))
        if data is None:
            raise SetupError(f"run {self._run_id} has no plan; see the log of its plan_shards task")
        return Run.from_json(data)

    def write_shard(self, shard: Shard) -> None:
        storage.write_bytes(self._uri(f"{shard.id}.json"), shard.to_json())

    def read_shard(self, shard_id: str) -> Shard:
        """Read the objects of a shard.

        Raises:
            SetupError: its file is missing.
        """
        data = storage.read_bytes(self._uri(f"{shard_id}.json"))
        if data is None:
            raise SetupError(f"the file of shard {shard_id} is missing; trigger a new run")
        return Shard.from_json(data)

    def write_rows(self, shard_id: str, rows: pa.Table, seconds: Mapping[str, float]) -> None:
        """Stage the rows of a shard with the seconds they took, by step; see `total_seconds`."""
        rows = rows.replace_schema_metadata({_SECONDS: json.dumps(dict(seconds)).encode()})
        storage.write_bytes(self._uri(f"{shard_id}.arrow"), _to_bytes(rows))

    def read_rows(self, shard_id: str) -> pa.Table | None:
        """Read the rows of a shard; None before it is scored. See `digest_of`."""
        data = storage.read_bytes(self._uri(f"{shard_id}.arrow"))
        if data is None:
            return None
        rows = pa.ipc.open_file(data).read_all()
        about = {**(rows.schema.metadata or {}), _DIGEST: hashlib.sha256(data).digest()}
        return rows.replace_schema_metadata(about)

    def remaining(self, run: Run) -> int:
        """Estimate the number of images still to be scored, by this run and by later ones.

        Each shard without rows counts for at least one image; the last shard may be smaller than
        the others.
        """
        files = storage.list_files(storage.join(self._results_uri, WORK, self._run_id))
        staged = sum(file.uri.endswith(".arrow") for file in files)
        return max(
            len(run.shard_ids) - staged, run.pending_objects - staged * run.params.shard_size
        )

    def quarantine(self, shard_id: str, rows: pa.Table, failures: Sequence[Failure]) -> str:
        """Keep rows that failed the gate, with the failures; return the URI of the failures."""
        target = storage.join(self._results_uri, QUARANTINE, shard_id)
        storage.write_bytes(f"{target}.arrow", _to_bytes(rows))
        report = {"run_id": self._run_id, "failures": [asdict(failure) for failure in failures]}
        storage.write_bytes(f"{target}.json", json.dumps(report, indent=2).encode())
        return f"{target}.json"

    def delete_plan(self) -> None:
        """Delete the plan that an earlier run with this id left."""
        storage.delete(self._uri(_RUN_FILE))

    def clear_shards(self, shard_ids: Iterable[str]) -> None:
        """Delete shards and their rows."""
        for shard_id in shard_ids:
            for kind in ("json", "arrow"):
                storage.delete(self._uri(f"{shard_id}.{kind}"))

    def _uri(self, name: str) -> str:
        return storage.join(self._results_uri, WORK, self._run_id, name)


def quarantined_objects(
    results_uri: str, bucket: str, model_digest: str
) -> Iterator[pa.RecordBatch]:
    """Yield key and etag of the objects of a bucket whose rows by this model are quarantined."""
    wanted = (pc.field("bucket") == bucket) & (pc.field("model_digest") == model_digest)
    for file in storage.list_files(storage.join(results_uri, QUARANTINE)):
        if file.uri.endswith(".arrow") and (data := storage.read_bytes(file.uri)):
            rows = pa.ipc.open_file(data).read_all().filter(wanted)
            yield from rows.select(["key", "etag"]).to_batches()


def clear_abandoned(results_uri: str, before: datetime) -> int:
    """Delete the staged files of runs inactive since `before`; return the number of runs.

    An active run writes files, so its newest file dates its last activity. If a kill interrupts
    the deletion, the next call completes it.
    """
    written: dict[str, datetime] = {}
    for file in storage.list_files(storage.join(results_uri, WORK)):
        folder = file.uri.rpartition("/")[0]
        written[folder] = max(file.modified, written.get(folder, file.modified))
    abandoned = [folder for folder, last in written.items() if last < before]
    for folder in abandoned:
        storage.delete_folder(folder)
    return len(abandoned)


def total_seconds(staged: Iterable[pa.Table]) -> dict[str, float]:
    """Sum the seconds of shards, by step. `staged` are tables from `Staging.read_rows`."""
    total = Stopwatch()
    for rows in staged:
        total.add(json.loads((rows.schema.metadata or {}).get(_SECONDS, b"{}")))
    return total.seconds


def digest_of(staged: pa.Table) -> bytes:
    """Return the SHA-256 of the file from which `Staging.read_rows` read a table."""
    return bytes(staged.schema.metadata[_DIGEST])


def _to_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
