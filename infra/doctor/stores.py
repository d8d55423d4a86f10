"""Checks of S3: the credentials, the clock, and access to images, results and tables."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from deltalake.exceptions import DeltaError

from infra.doctor.finding import Finding, State
from moodlake.errors import UserError
from moodlake.scoring.failures import one_line
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.s3 import s3_client, translate_error
from moodlake.scoring.tables.delta import open_table, scan
from moodlake.scoring.tables.results import ResultsTable
from moodlake.settings import Settings

_SKEW_SECONDS = 60
_REJECTED_SECONDS = 900
"""S3 rejects signatures whose time differs by more than this."""
_SHOWN = 300
_CREDENTIALS_REMEDY = (
    "sign in again, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


def identity(settings: Settings) -> Finding:
    """Check that there are credentials, and whose they are."""
    session = boto3.session.Session(region_name=_region())
    found = session.get_credentials()
    if found is None:
        return Finding(State.BAD, "no credentials found", _CREDENTIALS_REMEDY)
    if os.environ.get("AWS_ENDPOINT_URL") and not os.environ.get("AWS_ENDPOINT_URL_STS"):
        detail = f"{found.access_key[:4]}..., for {os.environ['AWS_ENDPOINT_URL']}"
        return Finding(State.GOOD, detail)
    try:
        who = session.client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        return Finding(State.BAD, str(error), _CREDENTIALS_REMEDY)
    return Finding(State.GOOD, f"{who['Arn']}, {session.region_name or 'no region'}")


def clock(settings: Settings) -> Finding:
    """Check that this machine's clock agrees with that of S3."""
    if not _configured("images_bucket"):
        return Finding(State.ABSENT, "not checked, because MOODLAKE_IMAGES_BUCKET is not set")
    before = datetime.now(UTC)
    try:
        answer = s3_client().head_bucket(Bucket=settings.images_bucket)
    except ClientError as error:  # an error answer carries the time, too
        answer = error.response
    except BotoCoreError as error:
        return Finding(State.ABSENT, f"S3 did not report its time: {error}")
    after = datetime.now(UTC)
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if date is None:
        return Finding(State.ABSENT, "S3 did not report its time")
    skew = (before + (after - before) / 2 - parsedate_to_datetime(date)).total_seconds()
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} S3's"
    if abs(skew) < _SKEW_SECONDS:
        return Finding(State.GOOD, detail)
    state = State.BAD if abs(skew) > _REJECTED_SECONDS else State.DOUBTFUL
    return Finding(state, detail, "synchronize this machine's clock with a time server (NTP)")


def images(settings: Settings) -> Finding:
    """Check that the bucket of images can be listed and an object of it read."""
    if not _configured("images_bucket"):
        return Finding(State.ABSENT, "no bucket is configured (MOODLAKE_IMAGES_BUCKET)")
    bucket, client = settings.images_bucket, s3_client()
    remedy = "check MOODLAKE_IMAGES_BUCKET, AWS_ENDPOINT_URL, and s3:ListBucket and s3:GetObject"
    try:
        found = client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents", [])
        for each in found:
            client.get_object(Bucket=bucket, Key=each["Key"], Range="bytes=0-0")["Body"].read()
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else None
        if code != "InvalidRange":  # the object is empty
            return Finding(State.BAD, str(translate_error(error, bucket)), remedy)
    access = "can be listed and read" if found else "can be listed; it is empty"
    return Finding(State.GOOD, f"s3://{bucket} {access}")


def results(settings: Settings) -> Finding:
    """Check that results can be written, read and deleted."""
    if not _configured("results_uri"):
        return Finding(State.ABSENT, "no place is configured (MOODLAKE_RESULTS_URI)")
    uri = storage.join(settings.results_uri, "work", f"doctor-{uuid.uuid4().hex}")
    try:
        storage.write_bytes(uri, b"moodlake")
        read = storage.read_bytes(uri)
        storage.delete(uri)
    except UserError as error:
        remedy = "check MOODLAKE_RESULTS_URI, and s3:GetObject, s3:PutObject and s3:DeleteObject"
        return Finding(State.BAD, str(error), remedy)
    if read != b"moodlake":
        return Finding(State.BAD, f"{settings.results_uri} returned other bytes than were written")
    return Finding(State.GOOD, f"{settings.results_uri} can be written and read")


def tables(settings: Settings) -> Finding:
    """Check that the tables can be opened, and report the last run."""
    if not _configured("results_uri"):
        return Finding(State.ABSENT, "no place is configured (MOODLAKE_RESULTS_URI)")
    try:
        table = open_table(settings.runs_table)
    except (DeltaError, OSError) as error:
        remedy = "check MOODLAKE_RESULTS_URI, AWS_ENDPOINT_URL, AWS_REGION and the credentials"
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:"):
            remedy += "; a store without TLS needs AWS_ALLOW_HTTP=true"
        return Finding(State.BAD, one_line(error)[:_SHOWN], remedy)
    if table is None:
        remedy = "put images into the bucket, then trigger the DAG score_images"
        return Finding(State.ABSENT, "there are no tables yet", remedy)
    ResultsTable(settings.results_table).open()
    records = scan(table, ["run_id", "ended_at", "problem"]).read_all().to_pylist()
    if not records:
        return Finding(State.ABSENT, "no run has ended yet")
    last = max(records, key=lambda record: record["ended_at"])
    detail = f"the last run, {last['run_id']}, ended {last['ended_at']:%Y-%m-%d %H:%M} UTC"
    if last["problem"]:
        return Finding(State.DOUBTFUL, f"{detail}: {last['problem']}", "read its log")
    return Finding(State.GOOD, detail)


def _configured(setting: str) -> bool:
    """Return whether a setting is set; a default name may belong to somebody else."""
    return setting in Settings.configured()


def _region() -> str | None:
    """Return the configured region; boto3 itself only reads AWS_DEFAULT_REGION."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
