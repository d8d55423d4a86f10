"""One CloudFormation stack: what would change, changing it, and taking it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from moodlake.errors import MendableError

_CHANGES = "moodlake"
_POLL_SECONDS = 2.0
_ONLY_PLANNED = "REVIEW_IN_PROGRESS"
"""The state of a stack that was never deployed."""
_UNCHANGED = ("didn't contain changes", "No updates are to be performed")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId")


class CloudError(MendableError):
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
        """As it was deployed last; empty where there is no such stack."""
        given = (self._told() or {}).get("Parameters", ())
        return {item["ParameterKey"]: item["ParameterValue"] for item in given}

    def plan(
        self, body: str, parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> list[Change]:
        """What deploying the template would change; nothing is changed yet.

        Raises:
            CloudError: AWS refuses the template, or the stack is in no state to be changed.
        """
        told = self._told()
        status = told["StackStatus"] if told else None
        self._check(status)
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
            # Its first deployment failed: nothing of it is left that could be changed.
            for _ in self.delete():
                pass
            told = status = None
        new = status in (None, _ONLY_PLANNED)
        self._delete_plan()
        self._ask(
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
        )
        return self._changes()

    def _changes(self) -> list[Change]:
        while (found := self._ask("describe_change_set", ChangeSetName=_CHANGES))["Status"] in (
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
            found = self._ask("describe_change_set", ChangeSetName=_CHANGES, NextToken=token)
            changes += found["Changes"]
        return [_change(item["ResourceChange"]) for item in changes]

    def forget_plan(self) -> None:
        """Leave no plan behind; nor a stack that has nothing but its plan."""
        self._delete_plan()
        if self.status() == _ONLY_PLANNED:
            self._ask("delete_stack")

    def _delete_plan(self) -> None:
        if self._told() is None:
            return
        try:
            self._client.delete_change_set(StackName=self.name, ChangeSetName=_CHANGES)
        except self._client.exceptions.ChangeSetNotFoundException:
            pass
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error

    def apply(self) -> Iterator[str]:
        """Do what was planned; yields a line for each step.

        Raises:
            CloudError: a resource could not be made or changed; what was done is taken back.
        """
        since = self._newest_event()
        self._ask("execute_change_set", ChangeSetName=_CHANGES)
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
        while True:
            told = self._told(by)
            for event in self._events_after(since, by):
                since = event["EventId"]
                status, why = event["ResourceStatus"], event.get("ResourceStatusReason", "")
                if status.endswith("FAILED") and "cancelled" not in why:
                    problems.append(f"{event['LogicalResourceId']}: {why}")
                yield f"{status:<28} {event['LogicalResourceId']}"
            status = told["StackStatus"] if told else "DELETE_COMPLETE"
            if not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(self._poll)
        if status not in wanted:
            raise CloudError(_failure(self.name, status, problems))

    def _events_after(self, since: str | None, by: str | None) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = []
        try:
            pages = self._client.get_paginator("describe_stack_events").paginate(
                StackName=by or self.name
            )
            for page in pages:
                for event in page["StackEvents"]:
                    if event["EventId"] == since:
                        return found[::-1]
                    found.append(event)
        except ClientError as error:
            if "does not exist" not in str(error):
                raise explained(error) from error
        return found[::-1]

    def _newest_event(self) -> str | None:
        events = self._events_after(None, None)
        return events[-1]["EventId"] if events else None

    def _told(self, by: str | None = None) -> dict[str, Any] | None:
        try:
            found = self._client.describe_stacks(StackName=by or self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise explained(error) from error
        except BotoCoreError as error:
            raise explained(error) from error
        return dict(found)

    def _check(self, status: str | None) -> None:
        if status and status.endswith("_IN_PROGRESS") and status != _ONLY_PLANNED:
            raise CloudError(f"{self.name} is being changed already ({status}); wait for its end")
        if status == "UPDATE_ROLLBACK_FAILED":
            raise CloudError(
                f"{self.name} could not be set back ({status}); mend what its events tell of, then "
                f"`aws cloudformation continue-update-rollback --stack-name {self.name}`"
            )

    def _ask(self, operation: str, **values: Any) -> dict[str, Any]:
        call: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        try:
            return call(StackName=self.name, **values)
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error


def _change(told: Mapping[str, Any]) -> Change:
    replaced = {"True": True, "False": False, None: False}.get(told.get("Replacement"))
    return Change(told["Action"], told["LogicalResourceId"], told["ResourceType"], replaced)


def _failure(name: str, status: str, problems: list[str]) -> str:
    told = "; ".join(problems) or "its events tell why"
    back = ", and what was done is taken back" if status.endswith("ROLLBACK_COMPLETE") else ""
    return f"{name} ended as {status}{back}: {told}{_hint(told)}"


def _hint(why: str) -> str:
    """What to do, where that is known."""
    if "already exist" in why:
        return ". A name is taken: give another --name, or another --images-bucket"
    if "AccessDenied" in why or "not authorized" in why:
        return ". Let an administrator deploy it, or allow that action to these credentials"
    return ""


def explained(error: Exception) -> CloudError:
    """What went wrong with AWS, and what to do about it."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code in _DENIED:
        return CloudError(f"AWS refuses: {error}. These credentials need that permission")
    if code in _EXPIRED:
        return CloudError(f"the credentials are not valid any more ({code}); sign in again")
    return CloudError(f"{error}; check the credentials, the region and the network")
