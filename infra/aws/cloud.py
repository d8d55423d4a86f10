"""moodlake on AWS, as a whole: its stacks in their order, and what they hold that is not theirs."""

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
from infra.aws.template import NAME_PATTERN, NAME_WORDS, STACKS, body, refusal, required, template
from moodlake import __version__
from moodlake.scoring.sources.dead_letters import replay
from moodlake.settings import Settings

_SERVICES = {
    "base": ("cloudformation", "s3", "sqs", "glue", "athena", "ecr", "secretsmanager"),
    # Budgets and Route 53 are everywhere.
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
"""Seconds for a server that begins from none: its start, its image's download, its model."""
METRICS = "moodlake"
"""The namespace that Airflow's role may write to."""
_EMPTIED = ("QueryResults", "Dags")
"""Outputs of base: buckets that go with it, for what they hold can be made again."""


class Cloud:
    """An installation on AWS.

    Args:
        name: what the names of everything begin with.
        region: where it is; that of the credentials if None.
        poll_seconds: between two looks at what AWS is doing.

    Raises:
        CloudError: a name that nothing can have, no region, or one that does not exist.
    """

    def __init__(
        self, name: str, region: str | None = None, poll_seconds: float | None = None
    ) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise CloudError(f"{name!r} is no name: it takes {NAME_WORDS}")
        self.name = name
        # boto3 by itself reads AWS_DEFAULT_REGION only.
        region = region or os.environ.get("AWS_REGION")
        with translate_errors():
            self._session = boto3.session.Session(region_name=region)
            self.region = self._checked_region()
            client = self._session.client("cloudformation")
        self.stacks = {part: CloudStack(client, f"{name}-{part}", poll_seconds) for part in STACKS}

    def identity(self) -> dict[str, str]:
        """`Account` and `Arn` of who is signed in; raises CloudError where nobody is."""
        with translate_errors():
            told = self._session.client("sts").get_caller_identity()
        return {name: str(told[name]) for name in ("Account", "Arn")}

    def check(self, parts: Iterable[str]) -> None:
        """Raises CloudError where the region lacks a service that these of STACKS need."""
        partition = self._session.get_partition_for_region(self.region)
        for part in parts:
            lacking = [
                service
                for service in _SERVICES[part]
                if self.region not in self._session.get_available_regions(service, partition)
            ]
            if lacking:
                without = "" if part == "base" else ", or do without it (--only base)"
                raise CloudError(
                    f"{self.region} has no {', '.join(lacking)}, which {part} needs; "
                    f"choose another region{without}"
                )

    def lacking(self, part: str, given: Mapping[str, str]) -> set[str]:
        """Parameters of one of STACKS that neither have a value nor get one from those before."""
        return required(template(part)) - self._values(part, given).keys()

    def check_image(self, given: Mapping[str, str]) -> str:
        """The tag of the server's image.

        Args:
            given: as for `plan`.

        Raises:
            CloudError: it was not pushed, and the server's tasks would not start.
        """
        values = self._values("run", given)
        registry, tag = values.get("Registry"), values["ServerTag"]
        if registry is None:
            return tag  # `plan` tells of that
        with translate_errors():
            found = self._session.client("ecr").batch_get_image(
                repositoryName=registry.split("/", 1)[1], imageIds=[{"imageTag": tag}]
            )
        if not found["images"]:
            raise CloudError(
                f"there is no image {registry}:{tag} yet; push it (docs/cloud.md tells how), "
                "then deploy again, or give another --server-tag"
            )
        return tag

    @contextlib.contextmanager
    def airflow_files(self) -> Iterator[tuple[Callable[[], Uploaded], Callable[[bool], Uploaded]]]:
        """The files of managed Airflow, built: what compares them with its bucket, as
        `artifacts.compare`, and what puts them there, as `artifacts.upload`.

        Raises:
            CloudError: base is not deployed.
        """
        bucket, s3 = self.base()["Dags"], self._session.client("s3")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            build(folder)
            yield lambda: compare(s3, bucket, folder), lambda dags: upload(s3, bucket, folder, dags)

    def set_pool(self) -> None:
        """Let managed Airflow score as much at once as its servers have workers."""
        with translate_errors():
            set_pool(self._session.client("mwaa"), self.name, int(self.outputs()["Slots"]))

    def plan(self, part: str, given: Mapping[str, str]) -> list[Change]:
        """What deploying one of STACKS would change.

        Args:
            part: one of STACKS.
            given: parameters of the templates, of which it takes its own; the others stay as they
                are.

        Raises:
            CloudError: AWS refuses it, or what it has to know is not there yet.
        """
        if refused := refusal(template(part), given):
            raise CloudError(refused)
        if lacking := self.lacking(part, given):
            raise CloudError(
                f"{part} has to know {', '.join(sorted(lacking))}: what is deployed and uploaded "
                "before it"
            )
        values = self._values(part, given)
        place = {"AWS::AccountId": self.identity()["Account"], "AWS::Region": self.region}
        tags = {"project": "moodlake", "name": self.name}
        return self.stacks[part].plan(body(part, values | place), values, tags)

    def _values(self, part: str, given: Mapping[str, str]) -> dict[str, str]:
        """Of a template's parameters, those that are known."""
        account = self.identity()["Account"]
        usual = {
            "Name": self.name,
            "ImagesBucket": f"{self.name}-images-{account}-{self.region}",
            "ServerTag": __version__,
        }
        found = usual | self.stacks[part].parameters() | self._before(part) | dict(given)
        own = template(part)["Parameters"]
        return {name: value for name, value in found.items() if name in own}

    def _before(self, part: str) -> dict[str, str]:
        """What the stacks before this one give out."""
        earlier = STACKS[: STACKS.index(part)]
        return {
            name: value for each in earlier for name, value in self.stacks[each].outputs().items()
        }

    def settings(self) -> Settings:
        """Where its parts are.

        Raises:
            CloudError: it is not deployed.
        """
        outputs = self.base()
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
        """Of all stacks, by name."""
        return {
            name: value for each in self.stacks.values() for name, value in each.outputs().items()
        }

    def destroy(self, parts: Collection[str] = STACKS) -> Iterator[str]:
        """Take these of STACKS down, the last first; yields a line for each step.

        Raises:
            CloudError: nothing is deployed, or what stands on one of them is left.
        """
        outputs = self.deployed()
        if "run" not in parts and self.stacks["run"].status():
            raise CloudError("run stands on base; take it down first, or both")
        for part in reversed(STACKS):
            if part not in parts:
                continue
            for bucket in _EMPTIED if part == "base" else ():
                if bucket in outputs:
                    yield f"emptying {outputs[bucket]}"
                    self._empty(outputs[bucket])
            yield from self.stacks[part].delete()

    def kept(self) -> list[str]:
        """The buckets that stay when all else is taken down."""
        outputs = self.outputs()
        return [outputs[part] for part in ("Images", "Results", "Remote") if part in outputs]

    def replay(self) -> int:
        """Send what was put aside back to the queue of arrivals; returns how many there were."""
        outputs = self.base()
        with translate_errors():
            sqs = self._session.client("sqs")
            return replay(sqs, outputs["DeadLetters"], outputs["Arrivals"])

    def base(self) -> dict[str, str]:
        """The outputs of all stacks; raises CloudError where base gives out none."""
        outputs = self.deployed()
        if not self.stacks["base"].outputs():
            raise CloudError(
                f"{self.name}'s base is not deployed; `moodlake cloud deploy --only base`"
            )
        return outputs

    def deployed(self) -> dict[str, str]:
        """The outputs; raises CloudError where nothing is deployed."""
        if not any(stack.status() for stack in self.stacks.values()):
            raise CloudError(f"there is no {self.name} in {self.region}; `moodlake cloud deploy`")
        return self.outputs()

    def _empty(self, bucket: str) -> None:
        """A bucket has to be empty, of old versions too, before it can go."""
        with translate_errors():
            s3 = self._session.client("s3")
            with contextlib.suppress(s3.exceptions.NoSuchBucket):  # gone at an earlier try
                for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                    gone = [
                        {"Key": each["Key"], "VersionId": each["VersionId"]}
                        for each in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                    ]
                    if gone:
                        s3.delete_objects(Bucket=bucket, Delete={"Objects": gone, "Quiet": True})

    def _checked_region(self) -> str:
        region = self._session.region_name
        if not region:
            raise CloudError("no region; give --region, or set AWS_REGION")
        try:
            self._session.get_partition_for_region(region)
        except UnknownRegionError as error:
            raise CloudError(f"there is no region {region!r}; give another --region") from error
        return str(region)
