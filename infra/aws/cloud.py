"""moodlake on AWS, as a whole: its stacks in their order, and what they hold that is not theirs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

import boto3
from botocore.exceptions import UnknownRegionError

from infra.aws.stack import Change, CloudError, CloudStack, in_words
from infra.aws.template import NAME_PATTERN, NAME_WORDS, body
from moodlake.scoring.dead_letters import replay
from moodlake.settings import Settings

STACKS = ("base",)
"""In the order in which they are deployed; they are taken down in the opposite one."""
_SERVICES = ("cloudformation", "s3", "sqs", "glue", "athena", "ecr", "secretsmanager")


class Cloud:
    """An installation on AWS.

    Args:
        name: what the names of everything begin with.
        region: where it is; that of the credentials if None.
        poll_seconds: between two looks at what AWS is doing.

    Raises:
        CloudError: a name that nothing can have, no region, or one that lacks a service.
    """

    def __init__(
        self, name: str, region: str | None = None, poll_seconds: float | None = None
    ) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise CloudError(f"{name!r} is no name: it takes {NAME_WORDS}")
        self.name = name
        # boto3 by itself reads AWS_DEFAULT_REGION only.
        region = region or os.environ.get("AWS_REGION")
        with in_words():
            self._session = boto3.session.Session(region_name=region)
            self.region = self._checked_region()
            client = self._session.client("cloudformation")
        self.stacks = {part: CloudStack(client, f"{name}-{part}", poll_seconds) for part in STACKS}

    def identity(self) -> dict[str, str]:
        """`Account` and `Arn` of who is signed in; raises CloudError where nobody is."""
        with in_words():
            told = self._session.client("sts").get_caller_identity()
        return {name: str(told[name]) for name in ("Account", "Arn")}

    def plan(self, part: str, given: Mapping[str, str]) -> list[Change]:
        """What deploying one of STACKS would change.

        Args:
            part: one of STACKS.
            given: parameters of its template; the others stay as they are.
        """
        account, stack = self.identity()["Account"], self.stacks[part]
        usual = {"Name": self.name, "ImagesBucket": f"{self.name}-images-{account}-{self.region}"}
        values = usual | stack.parameters() | dict(given)
        place = {"AWS::AccountId": account, "AWS::Region": self.region}
        tags = {"project": "moodlake", "name": self.name}
        return stack.plan(body(part, values | place), values, tags)

    def settings(self) -> Settings:
        """Where its parts are.

        Raises:
            CloudError: it is not deployed.
        """
        outputs = self._deployed()
        return Settings(
            images_bucket=outputs["Images"],
            results_uri=f"s3://{outputs['Results']}",
            server_keys=outputs["ServerToken"],
            arrivals_queue=outputs["Arrivals"],
            dead_letters=outputs["DeadLetters"],
        )

    def outputs(self) -> dict[str, str]:
        """Of all stacks, by name."""
        return {
            name: value for each in self.stacks.values() for name, value in each.outputs().items()
        }

    def destroy(self) -> Iterator[str]:
        """Take it down, the last stack first; yields a line for each step."""
        answers = self._deployed().get("Answers")
        for part in reversed(STACKS):
            if part == "base" and answers:
                yield f"emptying {answers}"
                self._empty(answers)
            yield from self.stacks[part].delete()

    def kept(self) -> list[str]:
        """The buckets that stay when all else is taken down."""
        outputs = self.outputs()
        return [outputs[part] for part in ("Images", "Results", "Remote") if part in outputs]

    def replay(self) -> int:
        """Send what was put aside back to the queue of arrivals; returns how many there were."""
        outputs = self._deployed()
        with in_words():
            sqs = self._session.client("sqs")
            return replay(sqs, outputs["DeadLetters"], outputs["Arrivals"])

    def _deployed(self) -> dict[str, str]:
        """The outputs; raises CloudError where nothing is deployed."""
        if not any(stack.status() for stack in self.stacks.values()):
            raise CloudError(f"there is no {self.name} in {self.region}; `moodlake cloud deploy`")
        return self.outputs()

    def _empty(self, bucket: str) -> None:
        """A bucket has to be empty before it can go."""
        with in_words():
            s3 = self._session.client("s3")
            with contextlib.suppress(s3.exceptions.NoSuchBucket):  # gone at an earlier try
                for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                    gone = [{"Key": each["Key"]} for each in page.get("Contents", ())]
                    if gone:
                        s3.delete_objects(Bucket=bucket, Delete={"Objects": gone, "Quiet": True})

    def _checked_region(self) -> str:
        region = self._session.region_name
        if not region:
            raise CloudError("no region; give --region, or set AWS_REGION")
        try:
            partition = self._session.get_partition_for_region(region)
        except UnknownRegionError as error:
            raise CloudError(f"there is no region {region!r}; give another --region") from error
        lacking = [
            service
            for service in _SERVICES
            if region not in self._session.get_available_regions(service, partition)
        ]
        if lacking:
            raise CloudError(f"{region} has no {', '.join(lacking)}; choose another region")
        return str(region)
