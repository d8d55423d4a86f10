"""Objects to score and the sources that they are read from."""

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
    """A source cannot be listed or read; the message includes what to do."""


class SetupError(SourceError):
    """A permanent error of a source, such as a missing bucket or denied access."""


@dataclass(frozen=True)
class SourceObject:
    """One version of an object, which a model scores once.

    Attributes:
        bucket: bucket; for local files, their folder or ZIP.
        key: decoded key, as S3 lists it.
        etag: ETag without quotes; "" for local files until they are read.
        size: size in bytes.
        last_modified: time of the last change: ISO 8601, UTC.
        version_id: version in a versioned bucket, if the listing includes it.
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
    """Objects and a function that reads one of them.

    Attributes:
        objects: objects of the source.
        read: returns the content of an object. Raises Rejected (vanished) if the object was
            deleted or overwritten after it was listed.
        total: number of objects, if known in advance.
    """

    objects: Iterable[SourceObject]
    read: Callable[[SourceObject], bytes]
    total: int | None = None


def check_size(item: SourceObject) -> None:
    """Raise Rejected for an object over the size limit of images."""
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
"""Columns of the listing of a bucket; times are UTC."""


def objects_of(listing: pa.RecordBatch, bucket: str) -> Iterator[SourceObject]:
    """Convert the rows of a listing to objects."""
    for row in listing.to_pylist():
        changed = row.pop("last_modified").replace(tzinfo=UTC).isoformat()
        yield SourceObject(bucket=bucket, last_modified=changed, **row)


def content_etag(data: bytes) -> str:
    """Return the ETag that S3 gives an object uploaded in one part: its MD5."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
