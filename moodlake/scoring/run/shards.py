"""Shards: the unit that is scored, retried and committed as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moodlake.inference.decoding import Limits
from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE
from moodlake.scoring.sources.objects import SourceObject

BYTES_OF_WEIGHT = 2**20
"""Of a JPEG: one of 2.4 MiB was seen to take 2.7 times as long as one of 0.03."""


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


def pack(
    objects: Iterable[SourceObject], *, model_digest: str, shard_size: int = DEFAULT_SHARD_SIZE
) -> Iterator[Shard]:
    """Shards over all objects, in their order, that take a similar time each.

    A small object weighs 1, a larger one as often as it has `BYTES_OF_WEIGHT`; a shard at most
    `shard_size`, or it holds one object alone.

    Raises:
        ValueError: `shard_size` is not positive.
    """
    if shard_size < 1:
        raise ValueError(f"a shard holds at least one object, not {shard_size}")
    packed: list[SourceObject] = []
    left = float(shard_size)
    for item in objects:
        if packed and weight(item) > left:
            yield Shard(shard_id(packed, model_digest), tuple(packed))
            packed, left = [], float(shard_size)
        packed.append(item)
        left -= weight(item)
    if packed:
        yield Shard(shard_id(packed, model_digest), tuple(packed))


def weight(item: SourceObject) -> float:
    """The time that an object takes, in that of a small one; too large, it is not even read."""
    return weight_of(item.size) if item.size <= Limits().max_bytes else 1.0


def weight_of(size: int) -> float:
    """The time that an image of so many bytes takes, in that of a small one."""
    return max(1.0, size / BYTES_OF_WEIGHT)
