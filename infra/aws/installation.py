"""An installation on AWS: its stacks, and the contents of its buckets and repositories."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import boto3
from botocore.exceptions import UnknownRegionError

from infra.aws.artifacts import Uploaded, build, compare, set_pool, upload
from infra.aws.stack import Change, CloudError, CloudStack, translate_errors
from infra.aws.template import (
    NAME_PATTERN,
    NAME_RULE,
    STACKS,
    body,
    invalid_value,
    required,
    template,
)
from moodlake import __version__
from moodlake.scoring.sources.dead_letters import replay
from moodlake.settings import Settings

_SERVICES = {
    "base": ("cloudformation", "s3", "sqs", "glue", "athena", "ecr", "secretsmanager"),
    # Budgets and Route 53 are available everywhere.
    "run": (
        "application-autoscaling",
        "autoscaling",
        "cloudwatch",
        "ec2",
        "ecs",
        "elbv2",
        "kms",
        "logs",
        "mwaa",
        "sns",
    ),
}
SERVER_WAIT = 900
"""Seconds for a server to start from zero: task start, image download, model loading."""
METRICS = "moodlake"
"""The namespace of metrics that Airflow's role may write to."""
_EMPTIED = ("QueryResults", "Dags")
"""Outputs of base: buckets that are deleted with it, because their content can be rebuilt."""


class Installation:
    """An installation on AWS.

    Args:
        name: prefix of all resource names.
        region: AWS region; None for that of the environment.
        poll_seconds: interval of polling AWS.

    Raises:
        CloudError: the name is invalid, or there is no region or no such region.
    """

    def __init__(
        self, name: str, region: str | None = None, poll_seconds: float | None = None
    ) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise CloudError(f"{name!r} is not a valid name: use {NAME_RULE}")
        self.name = name
        # boto3 itself only reads AWS_DEFAULT_REGION.
        region = region or os.environ.get("AWS_REGION")
        with translate_errors():
            self._session = boto3.session.Session(region_name=region)
            self.region = self._checked_region()
            client = self._session.client("cloudformation")
        self.stacks = {part: CloudStack(client, f"{name}-{part}", poll_seconds) for part in STACKS}

    def identity(self) -> dict[str, str]:
        """Return `Account` and `Arn` of the credentials; raise CloudError without valid ones."""
        with translate_errors():
            caller = self._session.client("sts").get_caller_identity()
        return {name: str(caller[name]) for name in ("Account", "Arn")}

    def check(self, parts: Iterable[str]) -> None:
        """Raise CloudError if the region lacks a service that these stacks need."""
        partition = self._session.get_partition_for_region(self.region)
        for part in parts:
            lacking = [
                service
                for service in _SERVICES[part]
                if self.region not in self._session.get_available_regions(service, partition)
            ]
            if lacking:
                alternative = "" if part == "base" else f", or omit {part} (--only base)"
                raise CloudError(
                    f"{self.region} does not offer {', '.join(lacking)}, which {part} needs; "
                    f"choose another region{alternative}"
                )

    def lacking(self, part: str, given: Mapping[str, str]) -> set[str]:
        """Return the parameters of a stack that have no value, not even from an earlier stack."""
        return required(template(part)) - self._values(part, given).keys()

    def check_image(self, given: Mapping[str, str]) -> str:
        """Return the tag of the server's image.

        Args:
            given: parameters, as for `plan`.

        Raises:
            CloudError: the image was not pushed; the server's tasks would not start.
        """
        values = self._values("run", given)
        registry, tag = values.get("Registry"), values["ServerTag"]
        if registry is None:
            return tag  # `plan` reports the missing registry
        with translate_errors():
            found = self._session.client("ecr").batch_get_image(
                repositoryName=registry.split("/", 1)[1], imageIds=[{"imageTag": tag}]
            )
        if not found["images"]:
            raise CloudError(
                f"there is no image {registry}:{tag}; push it (see docs/cloud.md) and deploy "
                "again, or choose another --server-tag"
            )
        return tag

    @contextlib.contextmanager
    def airflow_files(self) -> Iterator[tuple[Callable[[], Uploaded], Callable[[bool], Uploaded]]]:
        """Build the files of managed Airflow.

        Yields:
            Two functions: one compares the files with the bucket (`artifacts.compare`), the other
            uploads them (`artifacts.upload`).

        Raises:
            CloudError: base is not deployed.
        """
        bucket, s3 = self.outputs_with_base()["Dags"], self._session.client("s3")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            build(folder)
            yield lambda: compare(s3, bucket, folder), lambda dags: upload(s3, bucket, folder, dags)

    def set_pool(self) -> None:
        """Give Airflow's pool a slot for each worker of the servers."""
        with translate_errors():
            set_pool(self._session.client("mwaa"), self.name, int(self.outputs()["Slots"]))

    def plan(self, part: str, given: Mapping[str, str]) -> list[Change]:
        """Return the changes that deploying a stack would make.

        Args:
            part: one of STACKS.
            given: template parameters; others keep their values, and those of other stacks are
                ignored.

        Raises:
            CloudError: AWS rejects the template, or a parameter is invalid or missing.
        """
        if problem := invalid_value(template(part), given):
            raise CloudError(problem)
        if lacking := self.lacking(part, given):
            raise CloudError(
                f"{part} needs {', '.join(sorted(lacking))}; deploy the earlier stacks and upload "
                "the files of Airflow first"
            )
        values = self._values(part, given)
        place = {"AWS::AccountId": self.identity()["Account"], "AWS::Region": self.region}
        tags = {"project": "moodlake", "name": self.name}
        return self.stacks[part].plan(body(part, values | place), values, tags)

    def _values(self, part: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the known values of a template's parameters."""
        account = self.identity()["Account"]
        defaults = {
            "Name": self.name,
            "ImagesBucket": f"{self.name}-images-{account}-{self.region}",
            "ServerTag": __version__,
        }
        found = defaults | self.stacks[part].parameters() | self._before(part) | dict(given)
        own = template(part)["Parameters"]
        return {name: value for name, value in found.items() if name in own}

    def _before(self, part: str) -> dict[str, str]:
        """Return the outputs of the earlier stacks."""
        earlier = STACKS[: STACKS.index(part)]
        return {
            name: value for each in earlier for name, value in self.stacks[each].outputs().items()
        }

    def settings(self) -> Settings:
        """Return the settings for clients of this installation.

        Raises:
            CloudError: it is not deployed.
        """
        outputs = self.outputs_with_base()
        return Settings(
            images_bucket=outputs["Images"],
            results_uri=f"s3://{outputs['Results']}",
            server_url=outputs.get("ServerUrl", Settings().server_url),
            server_keys=outputs["ServerToken"],
            arrivals_queue=outputs["Arrivals"],
            dead_letters=outputs["DeadLetters"],
            server_wait=SERVER_WAIT if "ServerUrl" in outputs else 0,
            metrics=METRICS,
        )

    def outputs(self) -> dict[str, str]:
        """Return the outputs of all stacks, by name."""
        return {
            name: value for each in self.stacks.values() for name, value in each.outputs().items()
        }

    def destroy(self, parts: Collection[str] = STACKS) -> Iterator[str]:
        """Delete stacks, the last first; yield a line for each step.

        Raises:
            CloudError: nothing is deployed, or a stack that stays depends on one of them.
        """
        outputs = self.deployed()
        if "run" not in parts and self.stacks["run"].status():
            raise CloudError("run depends on base; destroy run first, or both")
        for part in reversed(STACKS):
            if part not in parts:
                continue
            for bucket in _EMPTIED if part == "base" else ():
                if bucket in outputs:
                    yield f"emptying {outputs[bucket]}"
                    self._empty(outputs[bucket])
            yield from self.stacks[part].delete()

    def kept(self) -> list[str]:
        """Return the buckets that remain when all else is deleted."""
        outputs = self.outputs()
        return [outputs[part] for part in ("Images", "Results", "Remote") if part in outputs]

    def replay(self) -> int:
        """Send the dead letters back to the queue of new objects; return their number."""
        outputs = self.outputs_with_base()
        with translate_errors():
            sqs = self._session.client("sqs")
            return replay(sqs, outputs["DeadLetters"], outputs["Arrivals"])

    def outputs_with_base(self) -> dict[str, str]:
        """Return the outputs of all stacks; raise CloudError if base is not deployed."""
        outputs = self.deployed()
        if not self.stacks["base"].outputs():
            raise CloudError(
                f"{self.name}'s base is not deployed; run `moodlake cloud deploy --only base`"
            )
        return outputs

    def deployed(self) -> dict[str, str]:
        """Return the outputs of all stacks; raise CloudError if nothing is deployed."""
        if not any(stack.status() for stack in self.stacks.values()):
            raise CloudError(
                f"{self.name} is not deployed in {self.region}; run `moodlake cloud deploy`"
            )
        return self.outputs()

    def _empty(self, bucket: str) -> None:
        """Delete all objects and versions: only an empty bucket can be deleted."""
        with translate_errors():
            s3 = self._session.client("s3")
            with contextlib.suppress(s3.exceptions.NoSuchBucket):  # deleted by an earlier attempt
                for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                    batch = [
                        {"Key": each["Key"], "VersionId": each["VersionId"]}
                        for each in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                    ]
                    if batch:
                        s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})

    def _checked_region(self) -> str:
        region = self._session.region_name
        if not region:
            raise CloudError("no region is configured; give --region or set AWS_REGION")
        try:
            self._session.get_partition_for_region(region)
        except UnknownRegionError as error:
            raise CloudError(f"there is no region {region!r}; give another --region") from error
        return str(region)
