"""What the templates promise, without deploying them: they are valid, and open nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from cfnlint.match import Match

from infra.aws.template import STACKS, body, required, template

PLACE = {"AWS::AccountId": "123456789012", "AWS::Region": "eu-central-1"}
GIVEN = {"Name": "moodlake", "ImagesBucket": "photos"}
BEFORE = {
    "AirflowRole": "arn:aws:iam::123456789012:role/moodlake-airflow-eu-central-1",
    "Arrivals": "https://sqs.eu-central-1.amazonaws.com/123456789012/moodlake-arrivals",
    "DeadLetters": "https://sqs.eu-central-1.amazonaws.com/123456789012/moodlake-dead-letters",
    "Registry": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/moodlake-server",
    "ServerToken": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:moodlake/server-token",
}
"""Outputs of base that need a valid form."""
EVERYTHING = {
    **{"Size": "large", "Gpu": "yes", "Spot": "yes", "FlowLogs": "yes"},
    "Certificate": "arn:aws:acm:eu-central-1:1:certificate/1",
    "ServerHost": "a.org",
    **{"Email": "a@a.org", "Budget": "100", "AirflowPage": "PRIVATE_ONLY"},
}
"""Every optional part of run."""
MOST_BYTES = 51_200
"""That CloudFormation takes in a request."""
OF_NOTHING = {
    "ecr:GetAuthorizationToken",
    "ecs:DiscoverPollEndpoint",
    "logs:DescribeLogGroups",
    "s3:GetAccountPublicAccessBlock",
}
"""Actions for which AWS knows neither a resource nor a condition."""
OF_ANYTHING = {
    "cloudwatch:PutMetricData": "cloudwatch:namespace",
    "kms:Decrypt": "kms:ViaService",
    "kms:DescribeKey": "kms:ViaService",
    "kms:Encrypt": "kms:ViaService",
    "kms:GenerateDataKey": "kms:ViaService",
}
"""Actions whose resource cannot be named, with the condition that limits them."""
OWN = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
EC2 = {"Service": "ec2.amazonaws.com"}
"""It tells no account; whom a role may be passed to is what guards it."""


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Of all templates, by name."""
    return {
        name: resource.get("Properties", {})
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


def problems(template_body: str, *parameters: dict[str, str]) -> list[Match]:
    """The findings of cfn-lint, with each of these sets of parameters."""
    config = ManualArgs(regions=[PLACE["AWS::Region"]], parameters=list(parameters))
    return lint(template_body, config=config)


@pytest.mark.parametrize("part", STACKS)
def test_a_template_is_valid_under_any_condition(part: str) -> None:
    assert problems(body(part, GIVEN | PLACE)) == []


def test_an_unknown_property_would_be_noticed() -> None:
    wrong = {"Type": "AWS::SQS::Queue", "Properties": {"Nonsense": 1}}
    (found,) = problems(json.dumps({"Resources": {"Queue": wrong}}))
    assert "Nonsense" in found.message


@pytest.mark.parametrize(
    ("part", "chosen"),
    [("base", {}), ("run", {}), ("run", EVERYTHING)],
    ids=["base", "run", "run-with-everything"],
)
def test_a_template_is_valid_with_these_parameters(part: str, chosen: dict[str, str]) -> None:
    values = {**dict.fromkeys(required(template(part)), "a"), **BEFORE, **chosen}
    known = {name: value for name, value in values.items() if name in template(part)["Parameters"]}
    assert problems(body(part, GIVEN | PLACE), known) == []


@pytest.mark.parametrize("part", STACKS)
def test_it_is_small_enough_to_be_sent(part: str) -> None:
    assert len(body(part, GIVEN | PLACE)) < MOST_BYTES


def test_what_is_allowed_is_named() -> None:
    """No action by a pattern, and nothing on everything but what has to be."""
    allowed = [
        (where, each)
        for where, each in statements()
        if each["Effect"] == "Allow" and "KeyPolicy" not in where
    ]
    assert len(allowed) > 6
    for where, statement in allowed:
        assert "NotAction" not in statement, where
        assert "NotResource" not in statement, where
        assert not [action for action in listed(statement["Action"]) if "*" in action], where
        if "Principal" in statement:
            from_here = statement["Principal"] in (OWN, EC2) or "Condition" in statement
            assert from_here, f"{where} may be used by any account"
        elif "*" in listed(statement["Resource"]):
            limits = {key for each in statement.get("Condition", {}).values() for key in each}
            for action in listed(statement["Action"]):
                assert action in OF_NOTHING or OF_ANYTHING[action] in limits, where


def test_a_key_is_for_those_who_tell_and_for_the_account() -> None:
    """In a key's policy, everything is that key."""
    (key,) = resources("AWS::KMS::Key").values()
    own, tellers = key["KeyPolicy"]["Statement"]
    assert own["Principal"] == OWN
    assert "*" not in "".join(tellers["Action"])
    assert "aws:SourceAccount" in tellers["Condition"]["StringEquals"]


def test_buckets_are_private_encrypted_and_reached_by_tls_only() -> None:
    buckets = resources("AWS::S3::Bucket")
    assert len(buckets) == 5
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
    with pytest.raises(ValueError, match=r"b\.yaml: Images defined twice"):
        template("base")


def test_buckets_that_stay_are_named_in_words() -> None:
    """Else CloudFormation does not take them up again."""
    names = {
        name: each["Properties"]["BucketName"]
        for part in STACKS
        for name, each in json.loads(body(part, GIVEN | PLACE))["Resources"].items()
        if "DeletionPolicy" in each
    }
    assert names == {
        "Images": "photos",
        "Results": "moodlake-results-123456789012-eu-central-1",
        "Remote": "moodlake-dvc-123456789012-eu-central-1",
    }


def test_what_stays_and_is_no_bucket_needs_no_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    gateway = {"Type": "AWS::EC2::InternetGateway", "DeletionPolicy": "Retain"}
    (tmp_path / "base" / "a.yaml").write_text(json.dumps({"Resources": {"Gateway": gateway}}))
    monkeypatch.setattr("infra.aws.template._FOLDER", tmp_path)
    assert json.loads(body("base", {}))["Resources"] == {"Gateway": gateway}
