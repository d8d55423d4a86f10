"""Objects that are scored: which version of what, and how it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import pyarrow as pa

from moodlake.errors import UserError
from moodlake.inference.decoding import Limits
from moodlake.reasons import Reason, Rejected


class SourceError(UserError):
    """A source that cannot be listed or read; the message says what to do."""


class SetupError(SourceError):
    """A source that trying again will not mend: a missing bucket, refused credentials."""


@dataclass(frozen=True)
class SourceObject:
    """One version of one object: the identity that is scored once per model.

    Attributes:
        bucket: the bucket; for local files the folder or ZIP they came from.
        key: the object's name, decoded, as S3 lists it.
        etag: of the content, without quotes; "" for local files until they are read.
        size: bytes.
        last_modified: ISO 8601, UTC.
        version_id: in a versioned bucket, where the listing tells it.
    """

    bucket: str
    key: str
    etag: str
    size: int
    last_modified: str
    version_id: str | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """(bucket, key, etag)."""
        return self.bucket, self.key, self.etag

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Source:
    """Objects, and how to read one of them.

    `read` returns the bytes, and raises Rejected (vanished) for an object that is gone or
    was overwritten since it was listed. `total` is their number, where it is known beforehand.
    """

    objects: Iterable[SourceObject]
    read: Callable[[SourceObject], bytes]
    total: int | None = None


def check_size(item: SourceObject) -> None:
    """Raises Rejected for an object that has more bytes than are read of an image."""
    if item.size > (limit := Limits().max_bytes):
        raise Rejected(Reason.TOO_LARGE, f"{item.size} bytes; the limit is {limit}")


LISTING_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version_id", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", pa.timestamp("us")),
    ]
)
"""Columns of a listing of one bucket, as Arrow; times are UTC."""


def objects_of(listing: pa.RecordBatch, bucket: str) -> Iterator[SourceObject]:
    """The rows of a listing."""
    for row in listing.to_pylist():
        changed = row.pop("last_modified").replace(tzinfo=UTC).isoformat()
        yield SourceObject(bucket=bucket, last_modified=changed, **row)


def content_etag(data: bytes) -> str:
    """The ETag that S3 gives to an object uploaded in one piece: its MD5."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
