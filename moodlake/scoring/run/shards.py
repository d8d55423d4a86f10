"""Shards: groups of objects that are scored, retried and committed as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moodlake.inference.decoding import Limits
from moodlake.scoring.defaults import DEFAULT_SHARD_SIZE
from moodlake.scoring.sources.objects import SourceObject

BYTES_OF_WEIGHT = 2**20
"""Size that counts as one small image: a JPEG of 2.4 MiB took 2.7 times as long as one of 0.03."""


@dataclass(frozen=True)
class Shard:
    """Objects that one model scores together.

    Attributes:
        id: digest of the model and the objects, independent of their order.
        objects: at least one object.
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
    """Return the SHA-256 of the model digest and the sorted identities, cut to 32 hex digits."""
    identities = sorted(item.identity for item in objects)
    payload = json.dumps([model_digest, identities], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def pack(
    objects: Iterable[SourceObject], *, model_digest: str, shard_size: int = DEFAULT_SHARD_SIZE
) -> Iterator[Shard]:
    """Group objects, in order, into shards that take a similar time each.

    An object weighs its size in units of `BYTES_OF_WEIGHT`, at least 1. A shard weighs at most
    `shard_size`, unless it holds a single object.

    Raises:
        ValueError: `shard_size` is less than 1.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size is {shard_size}; it must be at least 1")
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
    """Return the expected scoring time of an object, in units of a small one's.

    Objects over the size limit are not read and count as small.
    """
    return weight_of(item.size) if item.size <= Limits().max_bytes else 1.0


def weight_of(size: int) -> float:
    """Return the expected scoring time of an image of `size` bytes, in units of a small one's."""
    return max(1.0, size / BYTES_OF_WEIGHT)
