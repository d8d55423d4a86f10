"""Plan, deploy and delete a CloudFormation stack."""

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
"""The status of a stack that has a plan but was never deployed."""
_CREATION_FAILED = "ROLLBACK_COMPLETE"
"""The status after a failed first deployment, with nothing left of it."""
_UNCHANGED = ("didn't contain changes", "No updates are to be performed")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId")


class CloudError(UserError):
    """AWS rejected a request; the message says what to do."""


@dataclass(frozen=True)
class Change:
    """A change that a deployment makes to a resource.

    Attributes:
        action: Add, Modify, Remove or Import.
        name: logical id in the template.
        kind: resource type, such as AWS::S3::Bucket.
        replaced: whether a new resource replaces it; None if AWS cannot predict that.
    """

    action: str
    name: str
    kind: str
    replaced: bool | None


class CloudStack:
    """A stack in the region of the client.

    Args:
        client: CloudFormation client.
        name: name of the stack.
        poll_seconds: interval of polling AWS.
    """

    def __init__(self, client: BaseClient, name: str, poll_seconds: float | None = None) -> None:
        self.name = name
        self._client = client
        self._plan = ""
        self._poll = _POLL_SECONDS if poll_seconds is None else poll_seconds

    def status(self) -> str | None:
        """Return the status, such as CREATE_COMPLETE; None if the stack does not exist."""
        found = self._describe()
        return found["StackStatus"] if found else None

    def outputs(self) -> dict[str, str]:
        """Return the outputs by name; empty if the stack does not exist."""
        found = self._describe() or {}
        return {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the last deployment; empty if there was none."""
        found = self._describe()
        if found is None or found["StackStatus"] in (_ONLY_PLANNED, _CREATION_FAILED):
            return {}
        return {
            item["ParameterKey"]: item["ParameterValue"] for item in found.get("Parameters", ())
        }

    def plan(
        self, body: str, parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> list[Change]:
        """Return the changes that deploying the template would make, without making them.

        Raises:
            CloudError: AWS rejects the template, or the stack cannot be changed in its status.
        """
        status = self.status()
        self._check(status)
        if status == _CREATION_FAILED:
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
            # Adopts buckets that an earlier deployment retained.
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
            reason = found.get("StatusReason", "")
            if any(text in reason for text in _UNCHANGED):
                return []
            raise CloudError(f"{self.name} cannot be deployed: {reason}{_hint(reason)}")
        changes = list(found["Changes"])
        while token := found.get("NextToken"):
            found = self._ask("describe_change_set", ChangeSetName=self._plan, NextToken=token)
            changes += found["Changes"]
        return [_change(item["ResourceChange"]) for item in changes]

    def forget_plan(self) -> None:
        """Delete the plan, and the stack if it was never deployed."""
        self._delete_plan()
        if self.status() == _ONLY_PLANNED:
            for _ in self.delete():
                pass

    def _delete_plan(self) -> None:
        if self._describe() is None:
            return
        with (
            translate_errors(),
            contextlib.suppress(self._client.exceptions.ChangeSetNotFoundException),
        ):
            self._client.delete_change_set(StackName=self.name, ChangeSetName=_CHANGES)

    def apply(self) -> Iterator[str]:
        """Make exactly the changes that `plan` returned; yield a line for each step.

        Raises:
            CloudError: a resource could not be created or changed; the changes are rolled back.
        """
        since = self._newest_event()
        self._ask("execute_change_set", ChangeSetName=self._plan)
        yield from self._follow(since, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self) -> Iterator[str]:
        """Delete the stack except for retained resources; yield a line for each step."""
        found = self._describe()
        if found is None:
            return
        since = self._newest_event()
        self._ask("delete_stack")
        # Only its id finds a deleted stack.
        yield from self._follow(since, ("DELETE_COMPLETE",), found["StackId"])

    def _follow(
        self, since: str | None, wanted: tuple[str, ...], by: str | None = None
    ) -> Iterator[str]:
        problems: list[str] = []
        started = False
        while True:
            # A status read before the first event may predate the operation, and the last events
            # may only appear after the final status.
            found, is_current = self._describe(by), started
            for event in self._events_after(since, by):
                since, started = event["EventId"], True
                status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
                if status.endswith("FAILED") and "cancelled" not in reason:
                    problems.append(f"{event['LogicalResourceId']}: {reason}")
                yield f"{status:<28} {event['LogicalResourceId']}"
            status = found["StackStatus"] if found else "DELETE_COMPLETE"
            if is_current and not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(self._poll)
        if status not in wanted:
            raise CloudError(_failure(self.name, status, problems))

    def _events_after(self, since: str | None, by: str | None) -> list[dict[str, Any]]:
        """Return the later events, the oldest first."""
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

    def _describe(self, by: str | None = None) -> dict[str, Any] | None:
        with translate_errors():
            try:
                return dict(self._client.describe_stacks(StackName=by or self.name)["Stacks"][0])
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise

    def _check(self, status: str | None) -> None:
        if status and status.endswith("_IN_PROGRESS") and status != _ONLY_PLANNED:
            raise CloudError(
                f"{self.name} is already being changed ({status}); wait until that ends"
            )
        if status in ("DELETE_FAILED", "ROLLBACK_FAILED"):
            raise CloudError(
                f"{self.name} is partly deleted ({status}); run `moodlake cloud destroy`"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise CloudError(
                f"{self.name} could not be rolled back ({status}); fix the cause in its events, "
                f"then run `aws cloudformation continue-update-rollback --stack-name {self.name}`"
            )

    def _ask(self, operation: str, **values: Any) -> dict[str, Any]:
        call: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        with translate_errors():
            return call(StackName=self.name, **values)


def _change(item: Mapping[str, Any]) -> Change:
    replaced = {"True": True, "Conditional": None}.get(item.get("Replacement", ""), False)
    return Change(item["Action"], item["LogicalResourceId"], item["ResourceType"], replaced)


def _failure(name: str, status: str, problems: list[str]) -> str:
    reasons = "; ".join(problems) or "see its events"
    rolled_back = " and was rolled back" if status.endswith("ROLLBACK_COMPLETE") else ""
    return f"{name} ended as {status}{rolled_back}: {reasons}{_hint(reasons)}"


def _hint(reason: str) -> str:
    """Return what to do about a known cause, else ""."""
    if "already exist" in reason:
        return ". The name is taken: choose another --name or --images-bucket"
    if "service linked role" in reason.lower():
        return ". ECS creates that role on first use in an account: deploy again in a minute"
    if "AccessDenied" in reason or "not authorized" in reason:
        return ". Ask an administrator to deploy, or to allow that action for these credentials"
    return ""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of AWS into CloudError, with what to do."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _DENIED:
            raise CloudError(f"AWS denied access: {error}. Request that permission") from error
        if code in _EXPIRED:
            raise CloudError(f"the credentials have expired ({code}); sign in again") from error
        raise CloudError(f"AWS reported: {error}") from error
    except NoCredentialsError as error:
        raise CloudError(
            "no AWS credentials found; sign in (aws sso login, aws configure), or set AWS_PROFILE, "
            "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except BotoCoreError as error:
        raise CloudError(f"{error}; check credentials, region and network") from error
