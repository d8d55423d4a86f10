"""The permissions of Airflow's role, in an account that enforces them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from infra.aws.installation import Installation
from moodlake.serving.token import ServerError, read_token
from tests.aws.emulator import Emulator


@pytest.fixture(scope="module")
def outputs(aws: Emulator, cloud: Installation) -> dict[str, str]:
    found = cloud.outputs()
    aws.client("s3").put_object(Bucket=found["Images"], Key="a.jpg", Body=b"an image")
    return found


@pytest.fixture(scope="module")
def airflow(aws: Emulator, outputs: dict[str, str]) -> Iterator[Callable[[str], BaseClient]]:
    """Clients with Airflow's role."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.acting_as(outputs["AirflowRole"]).items():
            patch.setenv(name, value)
        yield lambda service: boto3.session.Session().client(service)


def test_airflow_has_the_permissions_it_needs(
    airflow: Callable[[str], BaseClient], outputs: dict[str, str]
) -> None:
    s3, sqs = airflow("s3"), airflow("sqs")
    assert s3.get_object(Bucket=outputs["Images"], Key="a.jpg")["Body"].read() == b"an image"
    assert s3.list_objects_v2(Bucket=outputs["Images"])["KeyCount"] == 1
    s3.put_object(Bucket=outputs["Results"], Key="results/a", Body=b"rows")
    s3.delete_object(Bucket=outputs["Results"], Key="results/a")
    assert sqs.receive_message(QueueUrl=outputs["Arrivals"])["Messages"]
    sqs.send_message(QueueUrl=outputs["DeadLetters"], MessageBody="of no use")
    token = read_token(outputs["ServerToken"])
    assert token
    assert len(token) == 43


@pytest.mark.parametrize(
    ("service", "action", "values"),
    [
        ("s3", "put_object", {"Bucket": "Images", "Key": "b.jpg"}),
        ("s3", "delete_object", {"Bucket": "Images", "Key": "a.jpg"}),
        ("s3", "list_objects_v2", {"Bucket": "Remote"}),
        ("s3", "get_object", {"Bucket": "QueryResults", "Key": "athena/a.csv"}),
        ("s3", "delete_bucket", {"Bucket": "Results"}),
        ("s3", "put_bucket_policy", {"Bucket": "Results", "Policy": "{}"}),
        ("sqs", "send_message", {"QueueUrl": "Arrivals", "MessageBody": "made up"}),
        ("sqs", "receive_message", {"QueueUrl": "DeadLetters"}),
        ("sqs", "purge_queue", {"QueueUrl": "Arrivals"}),
        ("secretsmanager", "put_secret_value", {"SecretId": "ServerToken", "SecretString": "x"}),
        ("iam", "list_roles", {}),
        ("cloudformation", "delete_stack", {"StackName": "moodlake-base"}),
    ],
)
def test_airflow_has_no_other_permissions(
    airflow: Callable[[str], BaseClient],
    outputs: dict[str, str],
    service: str,
    action: str,
    values: dict[str, str],
) -> None:
    named = {name: outputs.get(value, value) for name, value in values.items()}
    with pytest.raises(ClientError) as raised:
        getattr(airflow(service), action)(**named)
    assert "AccessDenied" in raised.value.response["Error"]["Code"]


def test_an_inaccessible_token_is_reported_with_the_permission(
    airflow: Callable[[str], BaseClient], outputs: dict[str, str]
) -> None:
    with pytest.raises(ServerError, match="secretsmanager:GetSecretValue"):
        read_token(outputs["ServerToken"].replace("server-token", "another"))
