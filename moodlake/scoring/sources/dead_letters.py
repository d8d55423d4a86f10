"""The dead-letter queue of unusable notifications: sending to it, and replaying it."""

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
"""Message attribute with the reason why the notification is unusable."""
_LONGEST_REASON = 256
_AT_ONCE = 10  # the maximum of SQS
_SECONDS = 2
_EMPTY = 2  # empty responses in a row: a single one may miss messages on other servers


@dataclass(frozen=True)
class DeadLetter:
    """An unusable record of a message.

    Attributes:
        body: body of a message with this record alone.
        reason: reason why it is unusable, as text.
    """

    body: str
    reason: str


def send_dead_letters(queue: str, letters: Iterable[DeadLetter]) -> None:
    """Send unusable records to the queue with the URL `queue`.

    Raises:
        SourceError: the queue is out of reach or denies access.
    """
    try:
        # boto3 itself reads only AWS_DEFAULT_REGION.
        client = boto3.session.Session(region_name=os.environ.get("AWS_REGION")).client("sqs")
        for letter in letters:
            reason = {"DataType": "String", "StringValue": letter.reason[:_LONGEST_REASON]}
            client.send_message(
                QueueUrl=queue, MessageBody=letter.body, MessageAttributes={REASON: reason}
            )
    except (ClientError, BotoCoreError) as error:
        raise SourceError(
            f"cannot send an unusable notification to {queue}: {error}; check "
            "MOODLAKE_DEAD_LETTERS and the permission sqs:SendMessage"
        ) from error


def replay(client: BaseClient, source: str, target: str) -> int:
    """Move all messages of one queue to another; return the number of messages.

    Each message is sent before it is deleted, so an interruption may duplicate messages but loses
    none. Messages that arrive during the replay stay.

    Args:
        client: SQS client.
        source: URL of the dead-letter queue.
        target: URL of the queue of notifications.
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
