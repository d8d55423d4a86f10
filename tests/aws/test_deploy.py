"""Deploying, again, and taking down, against an account that asks for permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from infra.aws.cloud import Cloud
from infra.aws.stack import CloudError
from infra.aws.template import STACKS, invalid_value, template
from moodlake.cli import app
from tests.aws.emulator import ACCOUNT, REGION, Emulator

pytestmark = pytest.mark.timeout(300)

DEPLOY = ("deploy", "--only", "base", "--yes")
"""The emulator knows nothing of half of what runs, of managed Airflow for example."""


def run(*arguments: str, code: int = 0) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, ["cloud", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.aws.stack._POLL_SECONDS", 0.1)


@pytest.fixture
def nothing_there(aws: Emulator, quick: None) -> Iterator[None]:
    """An account in which nothing is deployed, before and after."""
    yield
    for each in ("moodlake", "other"):
        list(Cloud(each).stacks["base"].delete())
    s3 = aws.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            s3.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        s3.delete_bucket(Bucket=bucket["Name"])


@pytest.mark.usefixtures("nothing_there")
def test_a_plan_shows_all_and_changes_nothing(aws: Emulator) -> None:
    told = run("plan")
    assert "AWS::S3::Bucket" in told
    assert "run: can be planned after base is deployed" in told
    assert "AirflowRole" in told
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert Cloud("moodlake").stacks["base"].status() is None


@pytest.mark.usefixtures("nothing_there")
def test_it_is_deployed_once_however_often_that_is_asked(aws: Emulator) -> None:
    told = run(*DEPLOY)
    assert f"account {ACCOUNT}" in told
    assert "CREATE_COMPLETE" in told
    assert "no changes" in run(*DEPLOY)
    exported = dict(line.removeprefix("export ").split("=", 1) for line in run("env").splitlines())
    assert exported["MOODLAKE_IMAGES_BUCKET"] == f"moodlake-images-{ACCOUNT}-{REGION}"
    assert "MOODLAKE_SERVER_URL" not in exported
    assert exported["AWS_REGION"] == exported["AWS_DEFAULT_REGION"] == REGION


@pytest.mark.usefixtures("nothing_there")
def test_what_runs_takes_what_it_stands_on_from_there(aws: Emulator) -> None:
    """But for what is uploaded between the two."""
    cloud = Cloud("moodlake")
    before = cloud.lacking("run", {})
    assert {"Images", "ServerToken", "AirflowRole"} < before
    with pytest.raises(CloudError, match="run needs AirflowRole"):
        cloud.plan("run", {})
    run(*DEPLOY)
    uploaded = {"RequirementsVersion", "PluginsVersion", "StartupVersion"}
    assert cloud.lacking("run", {}) == uploaded
    assert cloud.lacking("run", dict.fromkeys(uploaded, "1")) == set()


@pytest.mark.usefixtures("nothing_there")
def test_servers_are_not_deployed_before_their_image(aws: Emulator) -> None:
    told = " ".join(run("deploy", "--yes", "--server-tag", "1.0", code=1).split())
    assert "moodlake-server:1.0; push it" in told
    # What it stands on is there, and where the image belongs.
    assert Cloud("moodlake").outputs()["Registry"].endswith("/moodlake-server")
    aws.client("ecr").put_image(
        repositoryName="moodlake-server", imageManifest="{}", imageTag="1.0"
    )
    assert Cloud("moodlake").check_image({"ServerTag": "1.0"}) == "1.0"


@pytest.mark.usefixtures("nothing_there")
def test_what_people_have_stays_and_is_taken_up_again(aws: Emulator) -> None:
    run(*DEPLOY)
    outputs = Cloud("moodlake").outputs()
    s3 = aws.client("s3")
    s3.put_object(Bucket=outputs["Images"], Key="a.jpg", Body=b"theirs")
    s3.put_object(Bucket=outputs["QueryResults"], Key="athena/a.csv", Body=b"an answer")
    for content in (b"old", b"new"):
        s3.put_object(Bucket=outputs["Dags"], Key="dags/a.py", Body=content)
    s3.delete_object(Bucket=outputs["Dags"], Key="dags/a.py")
    told = run("destroy", "--yes")
    assert f"aws s3 rb --force s3://{outputs['Images']}" in told
    names = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert names == {outputs[part] for part in ("Images", "Results", "Remote")}
    assert s3.get_object(Bucket=outputs["Images"], Key="a.jpg")["Body"].read() == b"theirs"
    # The emulator plans to take them up, but cannot (it takes their names for taken).
    taken_up = {
        change.name for change in Cloud("moodlake").plan("base", {}) if change.action == "Import"
    }
    assert taken_up == {"Images", "Results", "Remote"}


@pytest.mark.usefixtures("nothing_there")
def test_a_name_that_is_taken_is_told_with_a_way_out(aws: Emulator) -> None:
    run(*DEPLOY, "--images-bucket", "holidays")
    told = run(
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
    assert "holidays" in told
    assert "another --images-bucket" in told
    # What was begun is gone: another name works at once.
    assert "CREATE_COMPLETE" in run(*DEPLOY, "--name", "other")


@pytest.mark.usefixtures("nothing_there")
def test_who_may_not_deploy_is_told_what_is_missing(
    aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    told = run(*DEPLOY, code=1)
    assert "cloudformation:CreateChangeSet" in told
    assert "permission" in told


def test_what_is_not_there_cannot_be_taken_down(aws: Emulator) -> None:
    assert "other is not deployed" in run("destroy", "--yes", "--name", "other", code=1)


def test_a_part_that_there_is_not_is_told(aws: Emulator) -> None:
    assert "one of base, run" in run("deploy", "--only", "airflow", code=2)


@pytest.mark.usefixtures("nothing_there")
def test_what_is_only_planned_is_told_as_such(aws: Emulator) -> None:
    """A plan that broke off leaves a stack that gives out nothing."""
    Cloud("moodlake").plan("base", {})
    for command in ("env", "replay"):
        assert "cloud deploy --only base" in " ".join(run(command, code=1).split())


@pytest.mark.usefixtures("nothing_there")
def test_who_says_no_gets_nothing(aws: Emulator) -> None:
    asked = ["cloud", "deploy", "--only", "base"]
    done = CliRunner().invoke(app, asked, input="n\n", env={"COLUMNS": "200"})
    assert done.exit_code == 1
    assert "nothing was changed" in done.output
    assert Cloud("moodlake").stacks["base"].status() is None


def test_any_parameter_of_the_templates_can_be_set(aws: Emulator) -> None:
    planned = run("plan", "--only", "base", "--set", "ImagesBucket=theirs")
    assert "AWS::S3::Bucket" in planned
    told = run("plan", "--set", "FlowLog=yes", code=2)
    assert "FlowLogs" in told
    # What one stack tells the other is nobody's to set.
    assert "ServerToken" not in told
    assert "NAME=VALUE" in run("plan", "--set", "FlowLogs", code=2)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--images-bucket", "Not_A_Bucket", "3 to 63 lowercase letters"),
        ("--set", "ImagesBucket=x", "3 to 63 lowercase letters"),
    ],
)
def test_what_a_parameter_cannot_be_is_told_before_anything_is_made(
    aws: Emulator, option: str, value: str, told: str
) -> None:
    assert told in run("deploy", "--only", "base", "--yes", option, value, code=1)
    assert Cloud("moodlake").stacks["base"].status() is None


@pytest.mark.parametrize("name", STACKS)
def test_every_pattern_says_what_it_takes(name: str) -> None:
    whole = template(name)
    for parameter, each in whole["Parameters"].items():
        assert ("AllowedPattern" in each) == ("ConstraintDescription" in each), parameter
        if "Default" in each:
            assert invalid_value(whole, {parameter: str(each["Default"])}) is None
    wrong = {"run": {"FlowLogs": "maybe"}, "base": {"Name": "No"}}[name]
    assert invalid_value(whole, wrong)


def test_what_is_of_another_part_is_not_lost_in_silence(aws: Emulator) -> None:
    assert "Size" in run("deploy", "--only", "base", "--yes", "--size", "large", code=2)
    assert "'large'" in run("plan", "--size", "huge", code=2)


def test_a_name_that_nothing_can_have_is_told(aws: Emulator) -> None:
    assert "2 to 20 lowercase letters" in run("plan", "--name", "My_Lake", code=1)


def test_a_profile_that_does_not_exist_is_told(
    aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in run("plan", code=1)


@pytest.mark.usefixtures("nothing_there")
def test_what_another_one_planned_meanwhile_is_not_done(aws: Emulator) -> None:
    mine, theirs = Cloud("moodlake", poll_seconds=0.1), Cloud("moodlake", poll_seconds=0.1)
    assert mine.plan("base", {})
    assert theirs.plan("base", {"ImagesBucket": "theirs"})
    with pytest.raises(CloudError):
        list(mine.stacks["base"].apply())
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_a_region_that_does_not_exist_is_told(aws: Emulator) -> None:
    with pytest.raises(CloudError, match="no region 'mars-north-1'"):
        Cloud("moodlake", "mars-north-1")


def test_the_region_comes_from_the_environment(
    aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Cloud("moodlake").region == "eu-central-1"


def test_a_region_has_to_be_given(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(CloudError, match="--region"):
        Cloud("moodlake")
