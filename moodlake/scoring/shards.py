"""Shards: the unit that is scored, retried and committed as a whole."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moodlake.scoring.inventory import SourceObject

DEFAULT_SHARD_SIZE = 256


@dataclass(frozen=True)
class Shard:
    """Objects that are scored together by one model.

    Attributes:
        id: a digest of what is scored by which model, whatever the order of the listing.
        objects: never empty.
    """

    id: str
    objects: tuple[SourceObject, ...]

    def to_json(self) -> bytes:
        payload = {"id": self.id, "objects": [item.to_dict() for item in self.objects]}
        return json.dumps(payload, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Shard:
        payload = json.loads(data)
        return cls(payload["id"], tuple(SourceObject(**item) for item in payload["objects"]))


def shard_id(objects: Iterable[SourceObject], model_digest: str) -> str:
    """SHA-256 over the model's digest and the sorted identities, as 32 hex digits."""
    identities = sorted(item.identity for item in objects)
    payload = json.dumps([model_digest, identities], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plan(
    objects: Iterable[SourceObject],
    *,
    model_digest: str,
    done: set[tuple[str, str, str]],
    shard_size: int = DEFAULT_SHARD_SIZE,
) -> Iterator[Shard]:
    """Shards of at most `shard_size` objects over those whose identity is not in `done`.

    Raises:
        ValueError: `shard_size` is not positive.
    """
    if shard_size < 1:
        raise ValueError(f"a shard holds at least one object, not {shard_size}")
    todo = (item for item in objects if item.identity not in done)
    while chunk := tuple(itertools.islice(todo, shard_size)):
        yield Shard(shard_id(chunk, model_digest), chunk)
