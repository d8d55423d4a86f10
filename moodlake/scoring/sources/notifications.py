"""S3's own notifications, as SQS queues hand them out: what was put into a bucket.

Notifications come as S3 sends them (alone or through SNS) or as EventBridge does:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa

from moodlake.scoring.sources.dead_letters import DeadLetter
from moodlake.scoring.sources.objects import LISTING_SCHEMA

_CREATED = "ObjectCreated:"
_CREATED_DETAIL = "Object Created"
_MOST_BYTES = 2**63 - 1


@dataclass(frozen=True)
class Arrivals:
    """What messages tell of.

    Attributes:
        listing: the objects that were put into the bucket, each version once; in LISTING_SCHEMA.
        unused: records that could not be understood, or are of other buckets; their neighbours
            are kept.
    """

    listing: pa.RecordBatch
    unused: tuple[DeadLetter, ...]


def arrivals(messages: Iterable[str], bucket: str) -> Arrivals:
    """What was put into `bucket`, by the bodies of SQS messages.

    Removals and S3's test message tell of no object.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    unused: list[DeadLetter] = []
    for record, message in _records(messages, unused):
        try:
            created = _created(record)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            why = f"it cannot be understood: {error!r}"
            unused.append(DeadLetter(_alone(record, message), why))
            continue
        if created is None:
            continue
        name, row = created
        if name != bucket:
            why = f"of the bucket {name!r}, not {bucket!r}"
            unused.append(DeadLetter(_alone(record, message), why))
        else:
            found[row["key"], row["etag"]] = row
    listing = pa.RecordBatch.from_pylist(list(found.values()), schema=LISTING_SCHEMA)
    return Arrivals(listing, tuple(unused))


def _records(messages: Iterable[str], unused: list[DeadLetter]) -> Iterator[tuple[Any, str]]:
    """The records of all messages, each with its message; what is none is added to `unused`."""
    for message in messages:
        try:
            content = json.loads(message)
            if isinstance(content, dict) and content.get("Type") == "Notification":  # of SNS
                content = json.loads(content["Message"])
            if not isinstance(content, dict):
                raise ValueError("not an object")
            records = content.get("Records", [content])
            if not isinstance(records, list):
                raise ValueError("Records is not a list")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            unused.append(DeadLetter(message, f"it cannot be understood: {error!r}"))
        else:
            yield from ((record, message) for record in records)


def _created(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """(bucket, row of LISTING_SCHEMA), or None if it tells of no new object.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: it is not what S3 sends.
    """
    if record.get("Event") == "s3:TestEvent":
        return None
    if "detail" in record:
        if record["detail-type"] != _CREATED_DETAIL:
            return None
        part, when = record["detail"], record["time"]
        item, key = part["object"], part["object"]["key"]
        version, etag = item.get("version-id"), item.get("etag")
    else:
        if not record["eventName"].removeprefix("s3:").startswith(_CREATED):
            return None
        part, when = record["s3"], record["eventTime"]
        item, key = part["object"], unquote_plus(part["object"]["key"], errors="strict")
        version, etag = item.get("versionId"), item.get("eTag")
    row = {
        "key": _text(key),
        "version_id": None if version is None else _text(version),
        "etag": _text(etag).strip('"'),
        "size": _size(item["size"]),
        "last_modified": _utc(_text(when)),
    }
    return _text(part["bucket"]["name"]), row


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    value.encode()  # lone surrogates are no text that a table can hold
    return value


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_BYTES:
        raise ValueError(f"{value!r} is no size")
    return value


def _utc(value: str) -> datetime:
    when = datetime.fromisoformat(value)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)


def _alone(record: Any, message: str) -> str:
    """A message of this record alone; the one it came in, where it is nested too deep for that."""
    try:
        return json.dumps({"Records": [record]})
    except RecursionError:
        return message
