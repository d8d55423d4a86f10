"""S3: listing a bucket, reading the listed versions, and translating errors."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.session
import botocore.utils
import pyarrow as pa
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.response import StreamingBody
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from moodlake.reasons import Reason, Rejected
from moodlake.scoring.sources.objects import (
    LISTING_SCHEMA,
    SetupError,
    Source,
    SourceError,
    SourceObject,
    check_size,
    objects_of,
)

log = logging.getLogger(__name__)
DOWNLOAD_THREADS = 16
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
# Attempts to read one object: boto3 retries failed requests, but no interrupted responses.
_READS = 4
_FAILURES = 50  # in a row
_LONGEST_WAIT = 0.5
_GONE = {"NoSuchKey", "404", "412", "PreconditionFailed", "NoSuchVersion"}
_WITHHELD = {"AccessDenied", "403", "InvalidObjectState", "KMS.DisabledException"}
_ACCESS_DENIED = {
    "AccessDenied",
    "403",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}


def s3_client(session: boto3.session.Session | None = None) -> BaseClient:
    """Return an S3 client that reads the standard AWS variables, sized for the download threads."""
    config = Config(
        max_pool_connections=DOWNLOAD_THREADS,
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
    )
    return (session or _session()).client("s3", config=config)


def _session() -> boto3.session.Session:
    """Return a new session: boto3's default session keeps the first credentials it finds."""
    session = botocore.session.get_session()
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    return boto3.session.Session(botocore_session=session)


def _timestamp(text: str) -> datetime:
    """Parse a time of a listing. botocore's own parser takes four fifths of a listing's time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return botocore.utils.parse_timestamp(text)


def list_bucket(client: BaseClient, bucket: str, prefix: str = "") -> Iterator[SourceObject]:
    """Yield every object under `prefix`, in key order; raises as `list_pages`."""
    for page in list_pages(client, bucket, prefix):
        yield from objects_of(page, bucket)


def list_pages(client: BaseClient, bucket: str, prefix: str = "") -> Iterator[pa.RecordBatch]:
    """Yield every object under `prefix`, in key order, in pages of LISTING_SCHEMA.

    Raises:
        SetupError: the bucket does not exist or denies access.
        SourceError: S3 is out of reach.
    """
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            rows = [
                {
                    "key": entry["Key"],
                    "etag": entry["ETag"].strip('"'),
                    "size": entry["Size"],
                    "last_modified": entry["LastModified"].astimezone(UTC).replace(tzinfo=None),
                }
                for entry in page.get("Contents", ())
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=LISTING_SCHEMA)
    except (ClientError, BotoCoreError) as error:
        raise translate_error(error, bucket) from error


class ObjectReader:
    """Reads objects of a bucket like `read_object`, in a fifth of the processor time.

    boto3 takes 2 ms per response. obstore therefore sends the requests, with the endpoint and
    credentials that boto3 found. If it does not get the whole object, boto3 repeats the request
    and classifies the error.
    """

    def __init__(self, bucket: str) -> None:
        session = _session()
        self.client = s3_client(session)
        self._failures = 0
        self._store: S3Store | None = None
        if session.get_credentials():
            self._store = S3Store(
                bucket,
                endpoint=self.client.meta.endpoint_url,
                region=self.client.meta.region_name,
                credential_provider=Boto3CredentialProvider(session),
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                    "timeout": timedelta(seconds=_READ_SECONDS),
                },
                retry_config={"max_retries": 0},
            )

    def read(self, item: SourceObject) -> bytes:
        """Return the content of the listed version; raises as `read_object`."""
        if self._store:
            try:
                answer = self._store.get(item.key, options={"if_match": f'"{item.etag}"'})
                data = bytes(answer.bytes())
                if len(data) == item.size:
                    self._failures = 0
                    return data
            except (NotFoundError, PreconditionError, ValueError):
                pass  # boto3 finds the cause; obstore takes no control characters in keys
            except (BaseError, OSError) as error:
                self._failed(error)
        return read_object(self.client, item)

    def _failed(self, error: Exception) -> None:
        """Wait before the next attempt; after _FAILURES in a row, use only boto3."""
        self._failures += 1
        if self._failures == _FAILURES:
            self._store = None
            log.warning(
                "obstore failed %d times in a row; reading with boto3 only: %s", _FAILURES, error
            )
        time.sleep(random.uniform(0, _LONGEST_WAIT))


def read_object(client: BaseClient, item: SourceObject) -> bytes:
    """Return the content of the listed version.

    Raises:
        Rejected: vanished, if the version no longer exists; unreadable, if S3 does not return it
            (archived, or denied by a policy or encryption key of the object) or not in the listed
            length.
        SourceError: S3 is out of reach, interrupts its responses or denies access.
    """
    problem: SourceError | Rejected | None = None
    for _ in range(_READS):
        body = _open(client, item)
        try:
            data: bytes = body.read()
        except BotoCoreError as error:
            problem = translate_error(error, item.bucket)
            continue
        if len(data) == item.size:
            return data
        detail = f"S3 returned {len(data)} bytes of {item.size} listed"
        problem = Rejected(Reason.UNREADABLE, detail)
    assert problem
    raise problem


def _open(client: BaseClient, item: SourceObject) -> StreamingBody:
    """Return the response body of an object, still to be read.

    Only a version that is no longer the newest is requested by its id, which needs a further
    permission.
    """
    request = {"Bucket": item.bucket, "Key": item.key, "IfMatch": f'"{item.etag}"'}
    try:
        try:
            response = client.get_object(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE or not item.version_id:
                raise
            response = client.get_object(**request, VersionId=item.version_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _GONE:
            raise Rejected(Reason.VANISHED, "deleted or overwritten after it was listed") from error
        if code in _WITHHELD:
            message = error.response["Error"].get("Message", "")
            raise Rejected(Reason.UNREADABLE, f"S3 returned {code}: {message}"[:200]) from error
        raise translate_error(error, item.bucket) from error
    except BotoCoreError as error:
        raise translate_error(error, item.bucket) from error
    return response["Body"]


def image_of(client: BaseClient, row: Mapping[str, Any]) -> bytes:
    """Return the content of the object of a results row; raises as `read_object`, `check_size`."""
    item = SourceObject(row["bucket"], row["key"], row["etag"], row["size"], "")
    check_size(item)
    return read_object(client, item)


def translate_error(error: Exception, bucket: str) -> SourceError:
    """Translate an error of a bucket to one that includes what to do."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code in ("NoSuchBucket", "404"):
        return SetupError(f"bucket {bucket!r} does not exist; create it or check the name")
    if code in _ACCESS_DENIED:
        return SetupError(
            f"S3 denied access to bucket {bucket!r} ({code}); check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the bucket's policy"
        )
    if isinstance(error, ParamValidationError):
        return SetupError(f"{bucket!r} is not a valid bucket name")
    if isinstance(error, NoCredentialsError):
        return SetupError("no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return SourceError(
        f"S3 failed for bucket {bucket!r}: {error}; check AWS_ENDPOINT_URL and the network"
    )


def bucket_source(bucket: str, prefix: str = "") -> Source:
    """Return a source of the objects of a bucket."""
    reader = ObjectReader(bucket)
    return Source(list_bucket(reader.client, bucket, prefix), reader.read)
