"""Notifications that could not be used: put aside in a queue of their own, and sent back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import boto3
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from moodlake.scoring.sources.objects import SourceError

REASON = "reason"
"""The attribute of a message that says why it is here."""
_LONGEST_REASON = 256
_AT_ONCE = 10  # the most that SQS hands out
_SECONDS = 2
_EMPTY = 2  # answers in a row: one alone may be of servers that have none


@dataclass(frozen=True)
class DeadLetter:
    """What could not be used of a message.

    Attributes:
        body: as SQS would hand it out; of several records in a message only this one.
        why: in words.
    """

    body: str
    why: str


def put_aside(queue: str, letters: Iterable[DeadLetter]) -> None:
    """Send them to the queue of that URL.

    Raises:
        SourceError: it is out of reach, or refuses.
    """
    try:
        # boto3 by itself reads AWS_DEFAULT_REGION only.
        client = boto3.client("sqs", region_name=os.environ.get("AWS_REGION"))
        for letter in letters:
            reason = {"DataType": "String", "StringValue": letter.why[:_LONGEST_REASON]}
            client.send_message(
                QueueUrl=queue, MessageBody=letter.body, MessageAttributes={REASON: reason}
            )
    except (ClientError, BotoCoreError) as error:
        raise SourceError(
            f"a notification cannot be put aside in {queue}: {error}; check "
            "MOODLAKE_DEAD_LETTERS and the permission sqs:SendMessage"
        ) from error


def replay(client: BaseClient, source: str, target: str) -> int:
    """Send all messages of one queue to another; returns how many.

    Each is there before it is deleted here: one that breaks off leaves some twice, and none lost.
    Those that come meanwhile stay.

    Args:
        client: of SQS.
        source: URL of the queue with what was put aside.
        target: URL of the queue that is watched.
    """
    started, moved, empty = time.time() * 1000, 0, 0
    while empty < _EMPTY:
        messages = client.receive_message(
            QueueUrl=source,
            MaxNumberOfMessages=_AT_ONCE,
            WaitTimeSeconds=_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        ).get("Messages", ())
        empty = 0 if messages else empty + 1
        for message in messages:
            if int(message["Attributes"]["SentTimestamp"]) >= started:
                return moved
            client.send_message(QueueUrl=target, MessageBody=message["Body"])
            client.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
    return moved
