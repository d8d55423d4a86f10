"""S3 notifications of new objects, received through SQS.

Three formats are understood: S3's own, S3's through SNS, and EventBridge's:
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
    """New objects that messages report.

    Attributes:
        listing: objects created in the bucket, each version once, in LISTING_SCHEMA.
        unused: records that are malformed or of other buckets.
    """

    listing: pa.RecordBatch
    unused: tuple[DeadLetter, ...]


def arrivals(messages: Iterable[str], bucket: str) -> Arrivals:
    """Collect the objects created in `bucket` from the bodies of SQS messages.

    Removals and S3's test message are ignored.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    unused: list[DeadLetter] = []
    for record, message in _records(messages, unused):
        try:
            created = _created(record)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            unused.append(DeadLetter(_alone(record, message), f"malformed: {error!r}"))
            continue
        if created is None:
            continue
        name, row = created
        if name != bucket:
            reason = f"bucket is {name!r}, not {bucket!r}"
            unused.append(DeadLetter(_alone(record, message), reason))
        else:
            found[row["key"], row["etag"]] = row
    listing = pa.RecordBatch.from_pylist(list(found.values()), schema=LISTING_SCHEMA)
    return Arrivals(listing, tuple(unused))


def _records(messages: Iterable[str], unused: list[DeadLetter]) -> Iterator[tuple[Any, str]]:
    """Yield the records of all messages, each with its message; add malformed ones to `unused`."""
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
            unused.append(DeadLetter(message, f"malformed: {error!r}"))
        else:
            yield from ((record, message) for record in records)


def _created(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the bucket and the row in LISTING_SCHEMA; None if no object was created.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: the record is malformed.
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
        raise ValueError(f"{value!r} is not text")
    value.encode()  # a table cannot hold lone surrogates
    return value


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_BYTES:
        raise ValueError(f"{value!r} is not a size")
    return value


def _utc(value: str) -> datetime:
    when = datetime.fromisoformat(value)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)


def _alone(record: Any, message: str) -> str:
    """Make a message of one record; return the original if the record is nested too deeply."""
    try:
        return json.dumps({"Records": [record]})
    except RecursionError:
        return message
