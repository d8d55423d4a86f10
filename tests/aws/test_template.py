"""The templates are valid and grant only what they must; without deploying them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
"""The limit of CloudFormation for a template in a request."""
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken",
    "ecs:DiscoverPollEndpoint",
    "logs:DescribeLogGroups",
    "s3:GetAccountPublicAccessBlock",
}
"""Actions that support neither resources nor conditions."""
WITH_CONDITION = {
    "cloudwatch:PutMetricData": "cloudwatch:namespace",
    "kms:Decrypt": "kms:ViaService",
    "kms:DescribeKey": "kms:ViaService",
    "kms:Encrypt": "kms:ViaService",
    "kms:GenerateDataKey": "kms:ViaService",
}
"""Actions whose resource cannot be named, with the condition that limits them instead."""
OWN = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
EC2 = {"Service": "ec2.amazonaws.com"}
"""EC2 sends no account; iam:PassRole protects its roles instead."""


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of a type, by name."""
    return {
        name: resource.get("Properties", {})
        for part in STACKS
        for name, resource in template(part)["Resources"].items()
        if resource["Type"] == kind
    }


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the statements of all policies in all templates, each with its path."""

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


def problems(template_body: str, *parameters: dict[str, str]) -> list[str]:
    """Return the findings of cfn-lint, with each of these sets of parameters."""
    from cfnlint.api import ManualArgs, lint  # takes a second: not while collecting tests

    config = ManualArgs(regions=[PLACE["AWS::Region"]], parameters=list(parameters))
    return [match.message for match in lint(template_body, config=config)]


@pytest.mark.parametrize("part", STACKS)
def test_a_template_is_valid_under_any_condition(part: str) -> None:
    assert problems(body(part, GIVEN | PLACE)) == []


def test_an_unknown_property_would_be_noticed() -> None:
    wrong = {"Type": "AWS::SQS::Queue", "Properties": {"Nonsense": 1}}
    (found,) = problems(json.dumps({"Resources": {"Queue": wrong}}))
    assert "Nonsense" in found


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
def test_a_template_fits_into_a_request(part: str) -> None:
    assert len(body(part, GIVEN | PLACE)) < MOST_BYTES


def test_allowed_actions_and_resources_are_named() -> None:
    """No patterns of actions, and no "*" resources except where AWS requires them."""
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
                assert action in WITHOUT_RESOURCE or WITH_CONDITION[action] in limits, where


def test_the_key_is_for_alarms_and_for_the_account() -> None:
    """In a key's policy, the resource "*" is that key."""
    (key,) = resources("AWS::KMS::Key").values()
    own, alarms = key["KeyPolicy"]["Statement"]
    assert own["Principal"] == OWN
    assert "*" not in "".join(alarms["Action"])
    assert "aws:SourceAccount" in alarms["Condition"]["StringEquals"]


def test_buckets_are_private_encrypted_and_require_tls() -> None:
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


def test_buckets_with_data_outlive_a_deployment() -> None:
    whole = template("base")["Resources"]
    for name in ("Images", "Results", "Remote"):
        assert whole[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert whole[name]["UpdateReplacePolicy"] == "Retain"


def test_queues_are_encrypted_and_keep_dead_letters_longest() -> None:
    queues = resources("AWS::SQS::Queue")
    assert all(queue["SqsManagedSseEnabled"] for queue in queues.values())
    assert queues["Arrivals"]["RedrivePolicy"]["maxReceiveCount"] > 1
    assert queues["DeadLetters"]["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_a_name_that_is_defined_twice_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text("Resources:\n  Images: {Type: AWS::S3::Bucket}\n")
    monkeypatch.setattr("infra.aws.template._FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"b\.yaml: Images defined twice"):
        template("base")


def test_retained_buckets_have_literal_names() -> None:
    """Otherwise, CloudFormation does not import them again."""
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


def test_other_retained_resources_need_no_literal_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    gateway = {"Type": "AWS::EC2::InternetGateway", "DeletionPolicy": "Retain"}
    (tmp_path / "base" / "a.yaml").write_text(json.dumps({"Resources": {"Gateway": gateway}}))
    monkeypatch.setattr("infra.aws.template._FOLDER", tmp_path)
    assert json.loads(body("base", {}))["Resources"] == {"Gateway": gateway}
