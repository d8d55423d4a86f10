"""S3's messages of new objects, as they come through SQS, SNS or EventBridge.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from moodlake.scoring.objects import SourceError, SourceObject

_CREATED = ("ObjectCreated:", "s3:ObjectCreated:")


class NoEvent(SourceError):
    """A message that tells of no object; it belongs into the dead-letter queue."""


def objects_in(message: str) -> list[SourceObject]:
    """The objects that a message says were created; S3's own test message tells of none.

    Events come late, twice, out of order or not at all: they are hints, and whoever reads the
    objects finds out whether they are still there.

    Args:
        message: the body, as S3 sent it, or wrapped by SNS or EventBridge.

    Raises:
        NoEvent: it is none of these.
    """
    try:
        content = json.loads(message)
        if isinstance(content, dict) and content.get("Type") == "Notification":
            content = json.loads(content["Message"])
        if content.get("Event") == "s3:TestEvent":
            return []
        if "detail" in content:
            return list(_of_event_bridge(content))
        return [item for record in content["Records"] for item in _of_record(record)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoEvent(f"this is no message of S3 ({error!r}): {message[:200]!r}") from error


def _of_record(record: dict[str, Any]) -> Iterator[SourceObject]:
    if record["eventName"].startswith(_CREATED):
        item = record["s3"]["object"]
        yield SourceObject(
            bucket=record["s3"]["bucket"]["name"],
            key=unquote_plus(item["key"]),
            etag=item["eTag"],
            size=int(item["size"]),
            last_modified=record["eventTime"],
            version_id=item.get("versionId"),
        )


def _of_event_bridge(content: dict[str, Any]) -> Iterator[SourceObject]:
    """EventBridge leaves keys as they are."""
    if content["detail-type"] == "Object Created":
        item = content["detail"]["object"]
        yield SourceObject(
            bucket=content["detail"]["bucket"]["name"],
            key=item["key"],
            etag=item["etag"],
            size=int(item["size"]),
            last_modified=content["time"],
            version_id=item.get("version-id"),
        )
