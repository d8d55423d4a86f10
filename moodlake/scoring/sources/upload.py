"""Local files into a bucket, as `moodlake put` does it."""

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
    """A local file, and the key that it gets."""

    key: str
    item: SourceObject
    source: Source

    def __str__(self) -> str:
        return f"{self.item.bucket}/{self.item.key}"


def gather(paths: Sequence[Path], prefix: str = "") -> list[Upload]:
    """Files, and those of folders and ZIPs; hidden ones are left out.

    Args:
        paths: of which a folder's or ZIP's files keep their place in it as their key.
        prefix: goes before each key.

    Raises:
        SourceError: there is no file, or two of them would get the same key.
    """
    uploads: dict[str, Upload] = {}
    for path in paths:
        before = len(uploads)
        source = open_source(str(path))
        for item in source.objects:
            upload = Upload(prefix + item.key, item, source)
            if other := uploads.get(upload.key):
                raise SourceError(
                    f"{other} and {upload} would both be {upload.key}; put them one after the "
                    "other, with a --prefix each"
                )
            uploads[upload.key] = upload
        if len(uploads) == before:
            raise SourceError(f"there is no file in {path}")
    return list(uploads.values())


def send(
    client: BaseClient, bucket: str, uploads: Sequence[Upload]
) -> Iterator[tuple[Upload, str | None]]:
    """Put files into a bucket; yields each, and why it was not sent (None if it was).

    Raises:
        SetupError: the bucket is missing or the credentials are wrong.
        SourceError: S3 is out of reach.
    """
    try:
        client.head_bucket(Bucket=bucket)  # some servers make a bucket of a misspelt name
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
    """What can be told without reading it. Members of a ZIP may bear any names."""
    if len(upload.key.encode()) > _MAX_KEY_BYTES:
        return f"its key has more than {_MAX_KEY_BYTES} bytes"
    if any(part in ("", ".", "..") for part in upload.key.split("/")):
        return f"{upload.key!r} is a key that leads out of the bucket on some servers"
    if upload.item.size > (limit := Limits().max_bytes):
        return f"it has {upload.item.size} bytes; images of more than {limit} are not scored"
    return None
