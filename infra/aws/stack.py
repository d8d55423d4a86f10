"""One CloudFormation stack: what would change, changing it, and taking it down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from moodlake.errors import UserError

_CHANGES = "moodlake"
_POLL_SECONDS = 2.0
_ONLY_PLANNED = "REVIEW_IN_PROGRESS"
"""The state of a stack that was never deployed."""
_NOT_BEGUN = "ROLLBACK_COMPLETE"
"""Its first deployment failed, and nothing of it is left."""
_UNCHANGED = ("didn't contain changes", "No updates are to be performed")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId")


class CloudError(UserError):
    """What AWS refused, and what to do about it."""


@dataclass(frozen=True)
class Change:
    """What a deployment does to one resource.

    Attributes:
        action: Add, Modify, Remove or Import.
        name: in the template.
        kind: such as AWS::S3::Bucket.
        replaced: a new one takes its place: True, False, or None where AWS cannot tell beforehand.
    """

    action: str
    name: str
    kind: str
    replaced: bool | None


class CloudStack:
    """A stack by its name, in the region of the client.

    Args:
        client: of CloudFormation.
        name: of the stack.
        poll_seconds: between two looks at what AWS is doing.
    """

    def __init__(self, client: BaseClient, name: str, poll_seconds: float | None = None) -> None:
        self.name = name
        self._client = client
        self._plan = ""
        self._poll = _POLL_SECONDS if poll_seconds is None else poll_seconds

    def status(self) -> str | None:
        """Such as CREATE_COMPLETE; None where there is no such stack."""
        told = self._told()
        return told["StackStatus"] if told else None

    def outputs(self) -> dict[str, str]:
        """What the template gives out, by name; empty where there is no such stack."""
        told = self._told()
        return {item["OutputKey"]: item["OutputValue"] for item in (told or {}).get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """As it was deployed last; empty where it never was."""
        told = self._told()
        if told is None or told["StackStatus"] in (_ONLY_PLANNED, _NOT_BEGUN):
            return {}
        return {item["ParameterKey"]: item["ParameterValue"] for item in told.get("Parameters", ())}

    def plan(
        self, body: str, parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> list[Change]:
        """What deploying the template would change; nothing is changed yet.

        Raises:
            CloudError: AWS refuses the template, or the stack is in no state to be changed.
        """
        status = self.status()
        self._check(status)
        if status == _NOT_BEGUN:
            for _ in self.delete():
                pass
            status = None
        new = status in (None, _ONLY_PLANNED)
        self._delete_plan()
        self._plan = self._ask(
            "create_change_set",
            ChangeSetName=_CHANGES,
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateBody=body,
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            # Buckets that an earlier deployment left behind are taken up again.
            ImportExistingResources=new,
        )["Id"]
        return self._changes()

    def _changes(self) -> list[Change]:
        while (found := self._ask("describe_change_set", ChangeSetName=self._plan))["Status"] in (
            "CREATE_PENDING",
            "CREATE_IN_PROGRESS",
        ):
            time.sleep(self._poll)
        if found["Status"] == "FAILED":
            self.forget_plan()
            why = found.get("StatusReason", "")
            if any(words in why for words in _UNCHANGED):
                return []
            raise CloudError(f"{self.name} cannot be deployed: {why}{_hint(why)}")
        changes = list(found["Changes"])
        while token := found.get("NextToken"):
            found = self._ask("describe_change_set", ChangeSetName=self._plan, NextToken=token)
            changes += found["Changes"]
        return [_change(item["ResourceChange"]) for item in changes]

    def forget_plan(self) -> None:
        """Leave no plan behind; nor a stack that has nothing but its plan."""
        self._delete_plan()
        if self.status() == _ONLY_PLANNED:
            for _ in self.delete():
                pass

    def _delete_plan(self) -> None:
        if self._told() is None:
            return
        with (
            translate_errors(),
            contextlib.suppress(self._client.exceptions.ChangeSetNotFoundException),
        ):
            self._client.delete_change_set(StackName=self.name, ChangeSetName=_CHANGES)

    def apply(self) -> Iterator[str]:
        """Do what `plan` told, and nothing that another one planned since; a line for each step.

        Raises:
            CloudError: a resource could not be made or changed; what was done is taken back.
        """
        since = self._newest_event()
        self._ask("execute_change_set", ChangeSetName=self._plan)
        yield from self._follow(since, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self) -> Iterator[str]:
        """Take all of it down but for what the template retains; yields a line for each step."""
        told = self._told()
        if told is None:
            return
        since = self._newest_event()
        self._ask("delete_stack")
        # By its id it is found when it is gone, too.
        yield from self._follow(since, ("DELETE_COMPLETE",), told["StackId"])

    def _follow(
        self, since: str | None, wanted: tuple[str, ...], by: str | None = None
    ) -> Iterator[str]:
        problems: list[str] = []
        begun = False
        while True:
            # A status that was read before an event was seen may be that of before, and an event
            # that comes with the last status is seen only after it.
            told, counts = self._told(by), begun
            for event in self._events_after(since, by):
                since, begun = event["EventId"], True
                status, why = event["ResourceStatus"], event.get("ResourceStatusReason", "")
                if status.endswith("FAILED") and "cancelled" not in why:
                    problems.append(f"{event['LogicalResourceId']}: {why}")
                yield f"{status:<28} {event['LogicalResourceId']}"
            status = told["StackStatus"] if told else "DELETE_COMPLETE"
            if counts and not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(self._poll)
        if status not in wanted:
            raise CloudError(_failure(self.name, status, problems))

    def _events_after(self, since: str | None, by: str | None) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = []
        pages = self._client.get_paginator("describe_stack_events").paginate(
            StackName=by or self.name
        )
        with translate_errors():
            for page in pages:
                for event in page["StackEvents"]:
                    if event["EventId"] == since:
                        return found[::-1]
                    found.append(event)
        return found[::-1]

    def _newest_event(self) -> str | None:
        events = self._events_after(None, None)
        return events[-1]["EventId"] if events else None

    def _told(self, by: str | None = None) -> dict[str, Any] | None:
        with translate_errors():
            try:
                return dict(self._client.describe_stacks(StackName=by or self.name)["Stacks"][0])
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise

    def _check(self, status: str | None) -> None:
        if status and status.endswith("_IN_PROGRESS") and status != _ONLY_PLANNED:
            raise CloudError(f"{self.name} is being changed already ({status}); wait for its end")
        if status in ("DELETE_FAILED", "ROLLBACK_FAILED"):
            raise CloudError(f"{self.name} is half taken down ({status}): `moodlake cloud destroy`")
        if status == "UPDATE_ROLLBACK_FAILED":
            raise CloudError(
                f"{self.name} could not be set back ({status}); mend what its events tell of, then "
                f"`aws cloudformation continue-update-rollback --stack-name {self.name}`"
            )

    def _ask(self, operation: str, **values: Any) -> dict[str, Any]:
        call: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        with translate_errors():
            return call(StackName=self.name, **values)


def _change(told: Mapping[str, Any]) -> Change:
    replaced = {"True": True, "Conditional": None}.get(told.get("Replacement", ""), False)
    return Change(told["Action"], told["LogicalResourceId"], told["ResourceType"], replaced)


def _failure(name: str, status: str, problems: list[str]) -> str:
    told = "; ".join(problems) or "its events tell why"
    back = ", and what was done is taken back" if status.endswith("ROLLBACK_COMPLETE") else ""
    return f"{name} ended as {status}{back}: {told}{_hint(told)}"


def _hint(why: str) -> str:
    """What to do, where that is known."""
    if "already exist" in why:
        return ". A name is taken: give another --name, or another --images-bucket"
    if "service linked role" in why.lower():
        return ". ECS makes that role at its first use in an account: deploy again in a minute"
    if "AccessDenied" in why or "not authorized" in why:
        return ". Let an administrator deploy it, or allow that action to these credentials"
    return ""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what AWS refuses into CloudError, with what to do about it."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _DENIED:
            raise CloudError(f"AWS refuses: {error}. Ask for that permission") from error
        if code in _EXPIRED:
            told = f"the credentials are not valid any more ({code}); sign in again"
            raise CloudError(told) from error
        raise CloudError(f"AWS answers: {error}") from error
    except NoCredentialsError as error:
        told = "there are no credentials of AWS; sign in (aws sso login, aws configure), or set "
        raise CloudError(f"{told}AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret") from error
    except BotoCoreError as error:
        raise CloudError(f"{error}; check credentials, region and network") from error
