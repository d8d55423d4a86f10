"""What there is to score: objects of a bucket, files of a folder, members of a ZIP."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from moodlake.errors import MendableError
from moodlake.reasons import Reason, Rejected

DOWNLOAD_THREADS = 16
_GONE = {"NoSuchKey", "404", "412", "PreconditionFailed", "NoSuchVersion"}
_WITHHELD = {"AccessDenied", "403", "InvalidObjectState", "KMS.DisabledException"}
_REFUSED = {
    "AccessDenied",
    "403",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class SourceError(MendableError):
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
        return asdict(self)


@dataclass(frozen=True)
class Source:
    """Objects, and how to read one of them.

    `read` returns the bytes, and raises Rejected (vanished) for an object that is gone or
    was overwritten since it was listed. `total` is their number, where it is known beforehand.
    """

    objects: Iterable[SourceObject]
    read: Callable[[SourceObject], bytes]
    total: int | None = None


def s3_client() -> BaseClient:
    """An S3 client from the standard AWS variables, sized for the download threads."""
    config = Config(
        max_pool_connections=DOWNLOAD_THREADS,
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
    )
    # A session of its own: boto3's shared one keeps the first credentials that it met.
    return boto3.session.Session().client("s3", config=config)


def list_bucket(client: BaseClient, bucket: str, prefix: str = "") -> Iterator[SourceObject]:
    """Every object under `prefix`, in key order.

    Raises:
        SetupError: the bucket is missing or the credentials are wrong.
        SourceError: S3 is out of reach.
    """
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                yield SourceObject(
                    bucket,
                    entry["Key"],
                    entry["ETag"].strip('"'),
                    entry["Size"],
                    entry["LastModified"].astimezone(UTC).isoformat(),
                )
    except (ClientError, BotoCoreError) as error:
        raise explained(error, bucket) from error


def read_object(client: BaseClient, item: SourceObject) -> bytes:
    """The bytes of exactly the version that was listed.

    Raises:
        Rejected: vanished, if that version is no longer there; unreadable, if it was listed
            but is not handed out (archived, or denied by a policy or key of its own).
        SourceError: S3 is out of reach or refuses the credentials.
    """
    try:
        answer = client.get_object(Bucket=item.bucket, Key=item.key, IfMatch=f'"{item.etag}"')
        return answer["Body"].read()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _GONE:
            raise Rejected(Reason.VANISHED, "gone or overwritten since it was listed") from error
        if code in _WITHHELD:
            message = error.response["Error"].get("Message", "")
            raise Rejected(Reason.UNREADABLE, f"S3 answers {code}: {message}"[:200]) from error
        raise explained(error, item.bucket) from error
    except BotoCoreError as error:
        raise explained(error, item.bucket) from error


def explained(error: Exception, bucket: str) -> SourceError:
    """What went wrong with a bucket and what to do about it."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code in ("NoSuchBucket", "404"):
        return SetupError(f"bucket {bucket!r} does not exist; create it or check the name")
    if code in _REFUSED:
        return SetupError(
            f"S3 refused the credentials for bucket {bucket!r} ({code}); check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the bucket's policy"
        )
    if isinstance(error, ParamValidationError):
        return SetupError(f"{bucket!r} is no name that a bucket can have")
    if isinstance(error, NoCredentialsError):
        return SetupError("no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return SourceError(
        f"S3 failed for bucket {bucket!r}: {error}; check AWS_ENDPOINT_URL and the network"
    )


def bucket_source(bucket: str, prefix: str = "") -> Source:
    """A bucket as a source."""
    client = s3_client()
    return Source(list_bucket(client, bucket, prefix), lambda item: read_object(client, item))


def folder_source(folder: Path) -> Source:
    """All files under `folder`, hidden ones left out, in name order."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path.relative_to(folder).parts)
    )
    return files_source(paths, folder)


def files_source(paths: list[Path], folder: Path | None = None) -> Source:
    """Local files; keys are relative to `folder`, or else their names."""
    named = {
        _readable(str(path.relative_to(folder) if folder else path.name)): path for path in paths
    }

    def describe(key: str, path: Path) -> SourceObject:
        stat = path.stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
        return SourceObject(_readable(str(folder or path.parent)), key, "", stat.st_size, modified)

    def read(item: SourceObject) -> bytes:
        try:
            return named[item.key].read_bytes()
        except FileNotFoundError as error:
            raise Rejected(Reason.VANISHED, str(error)) from error
        except OSError as error:
            raise Rejected(Reason.UNREADABLE, str(error)) from error

    return Source([describe(key, path) for key, path in named.items()], read, len(named))


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def _readable(name: str) -> str:
    """A file name as text that any table can hold, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def zip_source(path: Path) -> Source:
    """The files in a ZIP but for hidden ones, read one at a time and never unpacked to disk.

    Of several members of one name the last counts, as it does for whoever unpacks them.

    Raises:
        SourceError: the file is not a ZIP.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read as a ZIP: {error}") from error
    members = {_readable(entry.filename): entry for entry in archive.infolist()}

    def read(item: SourceObject) -> bytes:
        try:
            return archive.read(members[item.key])
        except Exception as error:  # each compression method raises errors of its own
            raise Rejected(Reason.TRUNCATED, f"damaged in the ZIP: {error}"[:200]) from error

    objects = [
        SourceObject(_readable(str(path)), key, "", entry.file_size, _zip_date(entry))
        for key, entry in members.items()
        if not (entry.is_dir() or _is_hidden(key.split("/")))
    ]
    return Source(objects, read, len(objects))


def _zip_date(entry: zipfile.ZipInfo) -> str:
    try:
        return datetime(*entry.date_time, tzinfo=UTC).isoformat()
    except ValueError:  # many programs write zeros
        return datetime(*_ZIP_EPOCH, tzinfo=UTC).isoformat()


def open_source(text: str) -> Source:
    """The source that a person named: s3://bucket/prefix, a folder, a ZIP or a file.

    Raises:
        SourceError: there is nothing at that place.
    """
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return bucket_source(bucket, prefix)
    path = Path(text)
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise SourceError(f"{text}: no such file or folder (a bucket is written s3://name/prefix)")
    if zipfile.is_zipfile(path):
        return zip_source(path)
    return files_source([path])


def content_etag(data: bytes) -> str:
    """The ETag that S3 gives to an object uploaded in one piece: its MD5."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
