"""Deploying, redeploying and destroying, in an account that enforces permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from infra.aws.installation import Installation
from infra.aws.stack import CloudError
from infra.aws.template import STACKS, invalid_value, template
from moodlake.cli import app
from tests.aws.emulator import ACCOUNT, REGION, Emulator

pytestmark = pytest.mark.timeout(300)

DEPLOY = ("deploy", "--only", "base", "--yes")
"""The emulator lacks half of the services of run, such as managed Airflow."""


def run(*arguments: str, code: int = 0) -> str:
    """Run a command; return its output."""
    done = CliRunner().invoke(app, ["cloud", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.aws.stack._POLL_SECONDS", 0.1)


@pytest.fixture
def empty_account(aws: Emulator, quick: None) -> Iterator[None]:
    """Leave the account empty after the test."""
    yield
    for each in ("moodlake", "other"):
        list(Installation(each).stacks["base"].delete())
    s3 = aws.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            s3.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        s3.delete_bucket(Bucket=bucket["Name"])


@pytest.mark.usefixtures("empty_account")
def test_a_plan_shows_all_changes_and_makes_none(aws: Emulator) -> None:
    output = run("plan")
    assert "AWS::S3::Bucket" in output
    assert "run: can be planned after base is deployed" in output
    assert "AirflowRole" in output
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert Installation("moodlake").stacks["base"].status() is None


@pytest.mark.usefixtures("empty_account")
def test_deploying_again_changes_nothing(aws: Emulator) -> None:
    output = run(*DEPLOY)
    assert f"account {ACCOUNT}" in output
    assert "CREATE_COMPLETE" in output
    assert "no changes" in run(*DEPLOY)
    exported = dict(line.removeprefix("export ").split("=", 1) for line in run("env").splitlines())
    assert exported["MOODLAKE_IMAGES_BUCKET"] == f"moodlake-images-{ACCOUNT}-{REGION}"
    assert "MOODLAKE_SERVER_URL" not in exported
    assert exported["AWS_REGION"] == exported["AWS_DEFAULT_REGION"] == REGION


@pytest.mark.usefixtures("empty_account")
def test_run_takes_parameters_from_the_outputs_of_base(aws: Emulator) -> None:
    """All but those of the files that are uploaded in between."""
    cloud = Installation("moodlake")
    before = cloud.lacking("run", {})
    assert {"Images", "ServerToken", "AirflowRole"} < before
    with pytest.raises(CloudError, match="run needs AirflowRole"):
        cloud.plan("run", {})
    run(*DEPLOY)
    uploaded = {"RequirementsVersion", "PluginsVersion", "StartupVersion"}
    assert cloud.lacking("run", {}) == uploaded
    assert cloud.lacking("run", dict.fromkeys(uploaded, "1")) == set()


@pytest.mark.usefixtures("empty_account")
def test_servers_are_not_deployed_before_their_image(aws: Emulator) -> None:
    output = " ".join(run("deploy", "--yes", "--server-tag", "1.0", code=1).split())
    assert "moodlake-server:1.0; push it" in output
    # base is deployed, with the registry of the image.
    assert Installation("moodlake").outputs()["Registry"].endswith("/moodlake-server")
    aws.client("ecr").put_image(
        repositoryName="moodlake-server", imageManifest="{}", imageTag="1.0"
    )
    assert Installation("moodlake").check_image({"ServerTag": "1.0"}) == "1.0"


@pytest.mark.usefixtures("empty_account")
def test_buckets_with_data_outlive_a_deployment_and_are_imported_again(aws: Emulator) -> None:
    run(*DEPLOY)
    outputs = Installation("moodlake").outputs()
    s3 = aws.client("s3")
    s3.put_object(Bucket=outputs["Images"], Key="a.jpg", Body=b"theirs")
    s3.put_object(Bucket=outputs["QueryResults"], Key="athena/a.csv", Body=b"an answer")
    for content in (b"old", b"new"):
        s3.put_object(Bucket=outputs["Dags"], Key="dags/a.py", Body=content)
    s3.delete_object(Bucket=outputs["Dags"], Key="dags/a.py")
    output = run("destroy", "--yes")
    assert f"aws s3 rb --force s3://{outputs['Images']}" in output
    names = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert names == {outputs[part] for part in ("Images", "Results", "Remote")}
    assert s3.get_object(Bucket=outputs["Images"], Key="a.jpg")["Body"].read() == b"theirs"
    # The emulator plans the import, but cannot execute it.
    imported = {
        change.name
        for change in Installation("moodlake").plan("base", {})
        if change.action == "Import"
    }
    assert imported == {"Images", "Results", "Remote"}


@pytest.mark.usefixtures("empty_account")
def test_a_taken_name_is_reported_with_a_remedy(aws: Emulator) -> None:
    run(*DEPLOY, "--images-bucket", "holidays")
    output = run(
        "deploy",
        "--only",
        "base",
        "--yes",
        "--name",
        "other",
        "--images-bucket",
        "holidays",
        code=1,
    )
    assert "holidays" in output
    assert "choose another --name or --images-bucket" in output
    # The failed deployment was rolled back: another name works at once.
    assert "CREATE_COMPLETE" in run(*DEPLOY, "--name", "other")


@pytest.mark.usefixtures("empty_account")
def test_a_missing_permission_is_named(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = aws.client("iam")
    iam.create_user(UserName="guest")
    allowed = {"Effect": "Allow", "Action": "cloudformation:Describe*", "Resource": "*"}
    iam.put_user_policy(
        UserName="guest",
        PolicyName="look",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    output = run(*DEPLOY, code=1)
    assert "cloudformation:CreateChangeSet" in output
    assert "permission" in output


def test_destroying_a_missing_installation_is_an_error(aws: Emulator) -> None:
    assert "other is not deployed" in run("destroy", "--yes", "--name", "other", code=1)


def test_an_unknown_stack_is_an_error(aws: Emulator) -> None:
    assert "one of base, run" in run("deploy", "--only", "airflow", code=2)


@pytest.mark.usefixtures("empty_account")
def test_commands_on_a_stack_that_was_only_planned_are_errors(aws: Emulator) -> None:
    """An interrupted plan leaves a stack without outputs."""
    Installation("moodlake").plan("base", {})
    for command in ("env", "replay"):
        assert "cloud deploy --only base" in " ".join(run(command, code=1).split())


@pytest.mark.usefixtures("empty_account")
def test_declining_the_prompt_changes_nothing(aws: Emulator) -> None:
    asked = ["cloud", "deploy", "--only", "base"]
    done = CliRunner().invoke(app, asked, input="n\n", env={"COLUMNS": "200"})
    assert done.exit_code == 1
    assert "nothing was changed" in done.output
    assert Installation("moodlake").stacks["base"].status() is None


def test_any_parameter_of_the_templates_can_be_set(aws: Emulator) -> None:
    planned = run("plan", "--only", "base", "--set", "ImagesBucket=theirs")
    assert "AWS::S3::Bucket" in planned
    output = run("plan", "--set", "FlowLog=yes", code=2)
    assert "FlowLogs" in output
    # Outputs of base cannot be set.
    assert "ServerToken" not in output
    assert "expected NAME=VALUE, got FlowLogs" in run("plan", "--set", "FlowLogs", code=2)


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--images-bucket", "Not_A_Bucket", "3 to 63 lowercase letters"),
        ("--set", "ImagesBucket=x", "3 to 63 lowercase letters"),
    ],
)
def test_an_invalid_parameter_is_reported_before_any_change(
    aws: Emulator, option: str, value: str, rule: str
) -> None:
    assert rule in run("deploy", "--only", "base", "--yes", option, value, code=1)
    assert Installation("moodlake").stacks["base"].status() is None


@pytest.mark.parametrize("name", STACKS)
def test_every_pattern_has_a_description(name: str) -> None:
    whole = template(name)
    for parameter, each in whole["Parameters"].items():
        assert ("AllowedPattern" in each) == ("ConstraintDescription" in each), parameter
        if "Default" in each:
            assert invalid_value(whole, {parameter: str(each["Default"])}) is None
    wrong = {"run": {"FlowLogs": "maybe"}, "base": {"Name": "No"}}[name]
    assert invalid_value(whole, wrong)


def test_a_parameter_of_another_stack_is_an_error(aws: Emulator) -> None:
    assert "Size" in run("deploy", "--only", "base", "--yes", "--size", "large", code=2)
    assert "'large'" in run("plan", "--size", "huge", code=2)


def test_an_invalid_name_is_an_error(aws: Emulator) -> None:
    assert "2 to 20 lowercase letters" in run("plan", "--name", "My_Lake", code=1)


def test_a_missing_profile_is_an_error(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in run("plan", code=1)


@pytest.mark.usefixtures("empty_account")
def test_a_plan_that_another_one_replaced_is_not_executed(aws: Emulator) -> None:
    mine, theirs = (
        Installation("moodlake", poll_seconds=0.1),
        Installation("moodlake", poll_seconds=0.1),
    )
    assert mine.plan("base", {})
    assert theirs.plan("base", {"ImagesBucket": "theirs"})
    with pytest.raises(CloudError):
        list(mine.stacks["base"].apply())
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_an_unknown_region_is_an_error(aws: Emulator) -> None:
    with pytest.raises(CloudError, match="no region 'mars-north-1'"):
        Installation("moodlake", "mars-north-1")


def test_the_region_comes_from_the_environment(
    aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Installation("moodlake").region == "eu-central-1"


def test_a_missing_region_is_an_error(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(CloudError, match="--region"):
        Installation("moodlake")
