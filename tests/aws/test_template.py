"""What the templates promise, without deploying them: they are valid, and open nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.aws.cloud import STACKS
from infra.aws.template import body, template
from infra.local.service import BIN

PLACE = {"AWS::AccountId": "123456789012", "AWS::Region": "eu-central-1"}
GIVEN = {"Name": "moodlake", "ImagesBucket": "photos"}
MOST_BYTES = 51_200
"""That CloudFormation takes in a request."""


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Of all templates, by name."""
    return {
        name: resource["Properties"]
        for part in STACKS
        for name, resource in template(part)["Resources"].items()
        if resource["Type"] == kind
    }


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of all policies in all templates, each with where it stands."""

    def below(where: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(value, dict):
            if "Effect" in value:
                yield where, value
            for key, inner in value.items():
                yield from below(f"{where}.{key}", inner)
        elif isinstance(value, list):
            for inner in value:
                yield from below(where, inner)

    for part in STACKS:
        yield from below("", template(part)["Resources"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("part", STACKS)
def test_it_is_valid(part: str, tmp_path: Path) -> None:
    file = tmp_path / f"{part}.json"
    file.write_text(body(part, GIVEN | PLACE))
    done = subprocess.run(
        [BIN / "cfn-lint", "--", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("part", STACKS)
def test_it_is_small_enough_to_be_sent(part: str) -> None:
    assert len(body(part, GIVEN | PLACE)) < MOST_BYTES


def test_what_is_allowed_is_named() -> None:
    """No action by a pattern, and nothing allowed on everything."""
    allowed = [(where, each) for where, each in statements() if each["Effect"] == "Allow"]
    assert len(allowed) > 6
    for where, statement in allowed:
        assert "NotAction" not in statement, where
        assert "NotResource" not in statement, where
        assert not [action for action in listed(statement["Action"]) if "*" in action], where
        if "Principal" in statement:
            own = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
            from_here = statement["Principal"] == own or "Condition" in statement
            assert from_here, f"{where} may be used by any account"
        else:
            assert "*" not in listed(statement["Resource"]), where


def test_buckets_are_private_encrypted_and_reached_by_tls_only() -> None:
    buckets = resources("AWS::S3::Bucket")
    assert len(buckets) == 4
    for name, bucket in buckets.items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}, name
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"], name
        assert bucket["LifecycleConfiguration"]["Rules"], name
    guarded = {policy["Bucket"]["Ref"] for policy in resources("AWS::S3::BucketPolicy").values()}
    assert guarded == set(buckets)
    for policy in resources("AWS::S3::BucketPolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_people_have_outlives_a_deployment() -> None:
    whole = template("base")["Resources"]
    for name in ("Images", "Results", "Remote"):
        assert whole[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert whole[name]["UpdateReplacePolicy"] == "Retain"


def test_queues_are_encrypted_and_what_cannot_be_read_is_kept_longest() -> None:
    queues = resources("AWS::SQS::Queue")
    assert all(queue["SqsManagedSseEnabled"] for queue in queues.values())
    assert queues["Arrivals"]["RedrivePolicy"]["maxReceiveCount"] > 1
    assert queues["DeadLetters"]["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_a_name_for_two_things_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text("Resources:\n  Images: {Type: AWS::S3::Bucket}\n")
    monkeypatch.setattr("infra.aws.template._FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"b\.yaml: Images is defined twice"):
        template("base")


def test_buckets_that_stay_are_named_in_words() -> None:
    """Else CloudFormation does not take them up again."""
    whole = json.loads(body("base", GIVEN | PLACE))["Resources"]
    names = {
        name: each["Properties"]["BucketName"]
        for name, each in whole.items()
        if "DeletionPolicy" in each
    }
    assert names == {
        "Images": "photos",
        "Results": "moodlake-results-123456789012-eu-central-1",
        "Remote": "moodlake-dvc-123456789012-eu-central-1",
    }
