"""Upload of local files to a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from moodlake.inference.decoding import Limits
from moodlake.reasons import Rejected
from moodlake.scoring.sources.local import open_source
from moodlake.scoring.sources.objects import Source, SourceError, SourceObject
from moodlake.scoring.sources.s3 import translate_error

_MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Upload:
    """A local file and its key in the bucket."""

    key: str
    item: SourceObject
    source: Source

    def __str__(self) -> str:
        return f"{self.item.bucket}/{self.item.key}"


def gather(paths: Sequence[Path], prefix: str = "") -> list[Upload]:
    """Collect files, and the files in folders and ZIPs, except hidden ones.

    Args:
        paths: files, folders and ZIPs. Files in a folder or ZIP are named by their path in it.
        prefix: prefix for each key.

    Raises:
        SourceError: a path has no files, or two files would get the same key.
    """
    uploads: dict[str, Upload] = {}
    for path in paths:
        before = len(uploads)
        source = open_source(str(path))
        for item in source.objects:
            upload = Upload(prefix + item.key, item, source)
            if other := uploads.get(upload.key):
                raise SourceError(
                    f"{other} and {upload} would both get the key {upload.key}; upload them "
                    "separately, each with its own --prefix"
                )
            uploads[upload.key] = upload
        if len(uploads) == before:
            raise SourceError(f"no files in {path}")
    return list(uploads.values())


def send(
    client: BaseClient, bucket: str, uploads: Sequence[Upload]
) -> Iterator[tuple[Upload, str | None]]:
    """Upload files; yield each with the reason why it was skipped, or None if it was uploaded.

    Raises:
        SetupError: the bucket does not exist or denies access.
        SourceError: S3 is out of reach.
    """
    try:
        client.head_bucket(Bucket=bucket)  # some servers create missing buckets
        for upload in uploads:
            problem = _problem(upload)
            if problem is None:
                try:
                    data = upload.source.read(upload.item)
                    client.put_object(Bucket=bucket, Key=upload.key, Body=data)
                except Rejected as error:
                    problem = str(error)
            yield upload, problem
    except (ClientError, BotoCoreError) as error:
        raise translate_error(error, bucket) from error


def _problem(upload: Upload) -> str | None:
    """Return why a file cannot be uploaded. Members of a ZIP may have any name."""
    if len(upload.key.encode()) > _MAX_KEY_BYTES:
        return f"the key is longer than {_MAX_KEY_BYTES} bytes"
    if any(part in ("", ".", "..") for part in upload.key.split("/")):
        return f"the key {upload.key!r} points outside the bucket on some servers"
    if upload.item.size > (limit := Limits().max_bytes):
        return f"the file has {upload.item.size} bytes; the limit for images is {limit}"
    return None
