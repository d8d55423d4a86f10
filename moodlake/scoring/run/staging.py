"""A run's work in hand: what its steps hand over to each other, until it is published.

<results>/work/<run id>/run.json              what was asked for, the model, the shards; it stays
<results>/work/<run id>/<shard id>.json       what a shard holds
<results>/work/<run id>/<shard id>.arrow      its rows, scored and not yet published
<results>/refused/<shard id>.arrow            its rows, if the gate refused them
<results>/refused/<shard id>.json             and why it did
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
REFUSED = "refused"
"""The folders of runs in hand and of rows that the gate refused, beside the tables."""
_RUN_FILE = "run.json"
_SECONDS = b"moodlake.seconds"
_DIGEST = b"moodlake.sha256"


@dataclass(frozen=True)
class Run:
    """A planned run: enough to score, publish and record it from any worker."""

    run_id: str
    params: RunParams
    model: ModelIdentity
    space: LabelSpace
    provenance: dict[str, Any]
    shard_ids: tuple[str, ...]
    tried: tuple[str, ...]
    """Those of them whose objects were tried before: they may have a row."""
    commits: int
    """How many commits there were of this bucket and model when it was planned."""
    listed: int
    """Objects that were found."""
    waiting: int
    """Those of them that this model had not scored; a run may take less of them."""
    started_by: str
    started_at: str
    seconds: dict[str, float] = field(default_factory=dict)
    """That planning took."""
    reference: dict[str, Any] | None = None
    """What the model says of images like those it was trained on; see `Model.reference`."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Run:
        """Read a plan.

        Raises:
            SetupError: another version of this code wrote it.
        """
        values = json.loads(data)
        try:
            values |= {
                "params": RunParams(**values["params"]),
                "model": ModelIdentity(**values["model"]),
                "space": LabelSpace.from_dict(values["space"]),
                "shard_ids": tuple(values["shard_ids"]),
                "tried": tuple(values["tried"]),
            }
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise SetupError(
                f"another version of moodlake planned this run ({error}); trigger a new one"
            ) from error


class Staging:
    """The files of one run under the prefix of the results."""

    def __init__(self, results_uri: str, run_id: str) -> None:
        self._results_uri = results_uri
        self._run_id = run_id

    def write_run(self, run: Run) -> None:
        storage.write_bytes(self._uri(_RUN_FILE), run.to_json())

    def read_run(self) -> Run:
        """The plan.

        Raises:
            SetupError: there is none.
        """
        data = storage.read_bytes(self._uri(_RUN_FILE))
        if data is None:
            raise SetupError(f"run {self._run_id} has no plan: planning failed; its log tells why")
        return Run.from_json(data)

    def write_shard(self, shard: Shard) -> None:
        storage.write_bytes(self._uri(f"{shard.id}.json"), shard.to_json())

    def read_shard(self, shard_id: str) -> Shard:
        """What a shard holds.

        Raises:
            SetupError: it is gone.
        """
        data = storage.read_bytes(self._uri(f"{shard_id}.json"))
        if data is None:
            raise SetupError(f"the plan of shard {shard_id} is gone; trigger a new run")
        return Shard.from_json(data)

    def write_rows(self, shard_id: str, rows: pa.Table, seconds: Mapping[str, float]) -> None:
        """Stage rows, and what they took by step; see `total_seconds`."""
        rows = rows.replace_schema_metadata({_SECONDS: json.dumps(dict(seconds)).encode()})
        storage.write_bytes(self._uri(f"{shard_id}.arrow"), _to_bytes(rows))

    def read_rows(self, shard_id: str) -> pa.Table | None:
        """The rows of a shard, or None before it was scored; see `digest_of`."""
        data = storage.read_bytes(self._uri(f"{shard_id}.arrow"))
        if data is None:
            return None
        rows = pa.ipc.open_file(data).read_all()
        about = {**(rows.schema.metadata or {}), _DIGEST: hashlib.sha256(data).digest()}
        return rows.replace_schema_metadata(about)

    def waiting(self, run: Run) -> int:
        """How many images have not been scored: at least one for each shard that was not.

        Those that later runs have to take count, too. The last shard may hold less than the others.
        """
        files = storage.list_files(storage.join(self._results_uri, WORK, self._run_id))
        staged = sum(file.uri.endswith(".arrow") for file in files)
        return max(len(run.shard_ids) - staged, run.waiting - staged * run.params.shard_size)

    def set_aside(self, shard_id: str, rows: pa.Table, failures: Sequence[Failure]) -> str:
        """Keep rows that the gate refused, and the reasons; returns where the reasons are."""
        aside = storage.join(self._results_uri, REFUSED, shard_id)
        storage.write_bytes(f"{aside}.arrow", _to_bytes(rows))
        report = {"run_id": self._run_id, "failures": [asdict(failure) for failure in failures]}
        storage.write_bytes(f"{aside}.json", json.dumps(report, indent=2).encode())
        return f"{aside}.json"

    def forget_run(self) -> None:
        """Remove the plan of an earlier run of this name."""
        storage.delete(self._uri(_RUN_FILE))

    def clear_shards(self, shard_ids: Iterable[str]) -> None:
        """Remove what shards hold, and their rows."""
        for shard_id in shard_ids:
            for kind in ("json", "arrow"):
                storage.delete(self._uri(f"{shard_id}.{kind}"))

    def _uri(self, name: str) -> str:
        return storage.join(self._results_uri, WORK, self._run_id, name)


def refused_objects(results_uri: str, bucket: str, model_digest: str) -> Iterator[pa.RecordBatch]:
    """Key and etag of the objects of a bucket whose rows, by this model, the gate refused."""
    of_them = (pc.field("bucket") == bucket) & (pc.field("model_digest") == model_digest)
    for file in storage.list_files(storage.join(results_uri, REFUSED)):
        if file.uri.endswith(".arrow") and (data := storage.read_bytes(file.uri)):
            rows = pa.ipc.open_file(data).read_all().filter(of_them)
            yield from rows.select(["key", "etag"]).to_batches()


def clear_abandoned(results_uri: str, before: datetime) -> int:
    """Remove the work of runs that nobody has touched since `before`; returns how many.

    A run that works writes a plan or rows, so the newest of its files tells when it last did.
    So does the plan of a published run. What a kill leaves is removed by the next call.
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
    """What shards took, by step: added up over what `Staging.read_rows` returned."""
    total = Stopwatch()
    for rows in staged:
        total.add(json.loads((rows.schema.metadata or {}).get(_SECONDS, b"{}")))
    return total.seconds


def digest_of(staged: pa.Table) -> bytes:
    """SHA-256 of the file that `Staging.read_rows` returned the rows of."""
    return bytes(staged.schema.metadata[_DIGEST])


def _to_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
