"""Checks of S3: who asks, what time it is there, and what may be read and written."""

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
from moodlake.scoring.failures import plain
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.s3 import s3_client, translate_error
from moodlake.scoring.tables.delta import open_table, scan
from moodlake.scoring.tables.results import ResultsTable
from moodlake.settings import Settings

_SKEW_SECONDS = 60
_REFUSED_SECONDS = 900
"""S3 refuses what was signed at another time than this."""
_SHOWN = 300
_MEND_CREDENTIALS = "sign in again, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"


def identity(settings: Settings) -> Finding:
    """As whom AWS knows us."""
    session = boto3.session.Session(region_name=_region())
    found = session.get_credentials()
    if found is None:
        return Finding(State.BAD, "there are none", _MEND_CREDENTIALS)
    if os.environ.get("AWS_ENDPOINT_URL") and not os.environ.get("AWS_ENDPOINT_URL_STS"):
        told = f"{found.access_key[:4]}..., for {os.environ['AWS_ENDPOINT_URL']}"
        return Finding(State.GOOD, told)
    try:
        who = session.client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        return Finding(State.BAD, str(error), _MEND_CREDENTIALS)
    return Finding(State.GOOD, f"{who['Arn']}, {session.region_name or 'no region'}")


def clock(settings: Settings) -> Finding:
    """Whether our time is that of S3."""
    if not _named("images_bucket"):
        return Finding(State.ABSENT, "there is no bucket to ask")
    asked = datetime.now(UTC)
    try:
        answer = s3_client().head_bucket(Bucket=settings.images_bucket)
    except ClientError as error:  # it tells the time all the same
        answer = error.response
    except BotoCoreError as error:
        return Finding(State.ABSENT, f"S3 does not tell its own: {error}")
    answered = datetime.now(UTC)
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if date is None:
        return Finding(State.ABSENT, "S3 does not tell its own")
    skew = (asked + (answered - asked) / 2 - parsedate_to_datetime(date)).total_seconds()
    told = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} S3's"
    if abs(skew) < _SKEW_SECONDS:
        return Finding(State.GOOD, told)
    state = State.BAD if abs(skew) > _REFUSED_SECONDS else State.DOUBTFUL
    return Finding(state, told, "let this machine's clock follow a time server (NTP)")


def images(settings: Settings) -> Finding:
    """Whether the bucket of images can be listed, and an object of it read."""
    if not _named("images_bucket"):
        return Finding(State.ABSENT, "no bucket is named (MOODLAKE_IMAGES_BUCKET)")
    bucket, client = settings.images_bucket, s3_client()
    mend = "check MOODLAKE_IMAGES_BUCKET, AWS_ENDPOINT_URL, and s3:ListBucket and s3:GetObject"
    try:
        found = client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents", [])
        for each in found:
            client.get_object(Bucket=bucket, Key=each["Key"], Range="bytes=0-0")["Body"].read()
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else None
        if code != "InvalidRange":  # it is empty
            return Finding(State.BAD, str(translate_error(error, bucket)), mend)
    told = "can be listed and read" if found else "can be listed; nothing is in it"
    return Finding(State.GOOD, f"s3://{bucket} {told}")


def results(settings: Settings) -> Finding:
    """Whether rows could be written, read and removed there."""
    if not _named("results_uri"):
        return Finding(State.ABSENT, "no place is named (MOODLAKE_RESULTS_URI)")
    uri = storage.join(settings.results_uri, "work", f"doctor-{uuid.uuid4().hex}")
    try:
        storage.write_bytes(uri, b"moodlake")
        read = storage.read_bytes(uri)
        storage.delete(uri)
    except UserError as error:
        mend = "check MOODLAKE_RESULTS_URI, and s3:GetObject, s3:PutObject and s3:DeleteObject"
        return Finding(State.BAD, str(error), mend)
    if read != b"moodlake":
        return Finding(State.BAD, f"{settings.results_uri} forgets what was written")
    return Finding(State.GOOD, f"{settings.results_uri} can be written and read")


def tables(settings: Settings) -> Finding:
    """Whether the tables can be opened, and when the last run ended."""
    if not _named("results_uri"):
        return Finding(State.ABSENT, "no place is named (MOODLAKE_RESULTS_URI)")
    try:
        table = open_table(settings.runs_table)
    except (DeltaError, OSError) as error:
        mend = "check MOODLAKE_RESULTS_URI, AWS_ENDPOINT_URL, AWS_REGION and the credentials"
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:"):
            mend += "; a store without TLS wants AWS_ALLOW_HTTP=true"
        return Finding(State.BAD, plain(error)[:_SHOWN], mend)
    if table is None:
        remedy = "put images into the bucket, and let score_images run"
        return Finding(State.ABSENT, "there are none yet", remedy)
    ResultsTable(settings.results_table).open()
    records = scan(table, ["run_id", "ended_at", "problem"]).to_table().to_pylist()
    if not records:
        return Finding(State.ABSENT, "no run has ended yet")
    last = max(records, key=lambda record: record["ended_at"])
    told = f"the last run, {last['run_id']}, ended {last['ended_at']:%Y-%m-%d %H:%M} UTC"
    if last["problem"]:
        return Finding(State.DOUBTFUL, f"{told}: {last['problem']}", "look at its log")
    return Finding(State.GOOD, told)


def _named(setting: str) -> bool:
    """What bears a name by default may be somebody else's."""
    return Settings.variable(setting) in os.environ


def _region() -> str | None:
    """boto3 by itself reads AWS_DEFAULT_REGION only."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
