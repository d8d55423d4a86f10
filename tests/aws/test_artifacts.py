"""The files of managed Airflow are built reproducibly, complete, and uploaded to its bucket."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import boto3
import pytest
from botocore.client import BaseClient
from botocore.stub import Stubber
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.aws.artifacts import (
    AIRFLOW_VERSION,
    CONSTRAINTS,
    UNPACKED,
    build,
    compare,
    set_pool,
    upload,
)
from infra.aws.installation import Installation
from infra.aws.stack import CloudError
from moodlake.scoring.run.code_version import COMMIT_VARIABLE, LOCK_VARIABLE
from moodlake.settings import PROJECT_ROOT, Settings
from tests.aws.emulator import ACCOUNT, REGION, Emulator
from tests.aws.test_template import resources
from tests.test_dags import CHECK, SCHEDULES

SETTINGS = Settings(
    images_bucket="pictures",
    results_uri="s3://results/it's here",
    server_url="http://internal.example:8080",
    server_keys=f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:moodlake/server-token-a1",
    arrivals_queue=f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/moodlake-arrivals",
)
IN_THE_IMAGE = {"httpx", "jinja2", "pydantic", "python-multipart", "pyyaml", "rich", "typer"}
"""The requirements of moodlake that Airflow's image contains."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel of plugins.zip."""
    plugins = tmp_path_factory.mktemp("plugins")
    ZipFile(built / "plugins.zip").extractall(plugins)
    (wheel,) = plugins.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, timeout=240)
    return target


def python(code: str, folder: Path, **environ: str) -> None:
    """Run code with the installed wheel, in its folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environ}
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=240
    )


def test_the_same_tree_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build(tmp_path)
    files = [path for path in built.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert (tmp_path / path.relative_to(built)).read_bytes() == path.read_bytes(), path


def test_the_requirements_name_what_the_plugins_hold(built: Path) -> None:
    constraint, wheel = (built / "requirements.txt").read_text("utf-8").splitlines()
    inside = set(ZipFile(built / "plugins.zip").namelist())
    url = Requirement(wheel).url
    assert url is not None
    named = {Path(constraint.split('"')[1]), Path(url.removeprefix("file://"))}
    assert named == {UNPACKED / name for name in inside}


def started(built: Path, **options: str) -> dict[str, str]:
    """Return the environment after the startup script."""
    output = subprocess.run(
        ["sh", "-c", '. "$0"; env', str(built / "startup.sh")],
        env={"PATH": os.environ["PATH"], **options},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def test_the_startup_script_exports_the_settings(built: Path) -> None:
    options = {
        name.replace("MOODLAKE_", "AIRFLOW__MOODLAKE__"): value
        for name, value in SETTINGS.to_environment().items()
    }
    assert Settings.from_environment(started(built, **options)) == SETTINGS


def test_rows_can_be_traced_to_the_code_without_a_checkout(built: Path, installed: Path) -> None:
    environ = started(built)
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", environ[COMMIT_VARIABLE])
    lock = hashlib.sha256((PROJECT_ROOT / "dvc.lock").read_bytes()).hexdigest()
    code = (
        "from moodlake.scoring.run.code_version import dvc_lock, git_commit\n"
        f"assert git_commit() == {environ[COMMIT_VARIABLE]!r}\n"
        f"assert dvc_lock() == {lock!r}\n"
    )
    python(code, installed, **{name: environ[name] for name in (COMMIT_VARIABLE, LOCK_VARIABLE)})


def test_pins_are_those_of_the_project() -> None:
    """All pins but Airflow's are the project's, and cover all requirements outside the image."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    everywhere = (PROJECT_ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert resources("AWS::MWAA::Environment")["Airflow"]["AirflowVersion"] == AIRFLOW_VERSION
    assert set(lines) - set(everywhere) == {f"apache-airflow=={AIRFLOW_VERSION}"}
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["managed"]
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    assert {canonicalize_name(Requirement(each).name) for each in wanted} - pinned == IN_THE_IMAGE


def test_the_dags_parse_without_a_checkout(built: Path, installed: Path, tmp_path: Path) -> None:
    there = {name: schedule for name, schedule in SCHEDULES.items() if name != "retrain"}
    inside = f"import moodlake; assert moodlake.__file__.startswith({str(installed)!r})\n"
    python(
        inside + CHECK.format(path=str(built / "dags"), schedules=there),
        installed,
        AIRFLOW_HOME=str(tmp_path),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        MOODLAKE_ARRIVALS_QUEUE=str(SETTINGS.arrivals_queue),
    )


def test_the_tasks_find_the_policy(installed: Path) -> None:
    project = (PROJECT_ROOT / "moodlake/scoring/policy.yaml").read_text("utf-8")
    python(
        "from moodlake.scoring.run.policy import POLICY_FILE, Policy\n"
        f"assert POLICY_FILE.is_relative_to({str(installed)!r})\n"
        f"assert POLICY_FILE.read_text('utf-8') == {project!r}\n"
        "Policy.load()",
        installed,
    )


@pytest.fixture
def bucket(aws: Emulator) -> Iterator[str]:
    client = aws.client("s3")
    client.create_bucket(Bucket="of-dags")
    yield "of-dags"
    there = client.list_object_versions(Bucket="of-dags")
    for version in [*there.get("Versions", ()), *there.get("DeleteMarkers", ())]:
        client.delete_object(Bucket="of-dags", Key=version["Key"], VersionId=version["VersionId"])
    client.delete_bucket(Bucket="of-dags")


def test_only_what_changed_is_uploaded(
    aws: Emulator, bucket: str, built: Path, tmp_path: Path
) -> None:
    client = aws.client("s3")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    ahead = compare(client, bucket, tmp_path)
    assert set(ahead.versions.values()) == {"new"}
    first = upload(client, bucket, tmp_path)
    assert ahead.changed == first.changed
    assert {"dags/score_images.py", "plugins.zip", "startup.sh"} <= set(first.changed)
    plugins = first.versions["PluginsVersion"]
    answer = client.get_object(Bucket=bucket, Key="plugins.zip", VersionId=plugins)
    assert answer["Body"].read() == (tmp_path / "plugins.zip").read_bytes()

    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    again = upload(client, bucket, tmp_path)
    assert again.changed == ()
    assert again.versions == first.versions

    dag = tmp_path / "dags" / "maintain.py"
    dag.write_text(dag.read_text("utf-8") + "\n", "utf-8")
    assert upload(client, bucket, tmp_path).changed == ("dags/maintain.py",)
    dag.unlink()
    ahead = compare(client, bucket, tmp_path)
    assert (ahead.changed, ahead.removed) == ((), ("dags/maintain.py",))
    assert ahead.versions == first.versions
    gone = upload(client, bucket, tmp_path)
    assert (gone.changed, gone.removed) == ((), ("dags/maintain.py",))
    listed = client.list_objects_v2(Bucket=bucket, Prefix="dags/")["Contents"]
    left = {f"dags/{path.name}" for path in dag.parent.iterdir()}
    assert {item["Key"] for item in listed} == left
    assert upload(client, bucket, tmp_path).removed == ()

    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    upload(client, bucket, tmp_path)
    (tmp_path / "startup.sh").write_text("true\n", "utf-8")
    after = upload(client, bucket, tmp_path, dags=False)
    assert after.changed == ("startup.sh",)
    assert after.versions["StartupVersion"] != first.versions["StartupVersion"]
    assert after.versions["PluginsVersion"] == plugins


def test_a_bucket_without_versioning_is_an_error(aws: Emulator, bucket: str, built: Path) -> None:
    with pytest.raises(CloudError, match="has no versioning"):
        upload(aws.client("s3"), bucket, built)


@pytest.fixture
def mwaa() -> Iterator[tuple[BaseClient, Stubber]]:
    """A client whose requests are validated by AWS's model of the service."""
    client = boto3.client(
        "mwaa", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


PATCH = {
    "Name": "moodlake",
    "Path": "/pools/torchserve",
    "Method": "PATCH",
    "QueryParameters": {"update_mask": ["slots"]},
    "Body": {"slots": 6},
}
POST = {
    "Name": "moodlake",
    "Path": "/pools",
    "Method": "POST",
    "Body": {"name": "torchserve", "slots": 6},
}


def test_an_existing_pool_gets_its_slots(mwaa: tuple[BaseClient, Stubber]) -> None:
    client, stubber = mwaa
    stubber.add_response("invoke_rest_api", {"RestApiStatusCode": 200}, PATCH)
    set_pool(client, "moodlake", 6)


def test_a_missing_pool_is_created(mwaa: tuple[BaseClient, Stubber]) -> None:
    client, stubber = mwaa
    fail(stubber, 404)
    stubber.add_response("invoke_rest_api", {"RestApiStatusCode": 201}, POST)
    set_pool(client, "moodlake", 6)


def test_an_error_of_airflow_is_reported(mwaa: tuple[BaseClient, Stubber]) -> None:
    client, stubber = mwaa
    fail(stubber, 403)
    with pytest.raises(CloudError, match="RestApiClientException"):
        set_pool(client, "moodlake", 6)


def fail(stubber: Stubber, status: int) -> None:
    stubber.add_client_error(
        "invoke_rest_api",
        "RestApiClientException",
        modeled_fields={"RestApiStatusCode": status},
        expected_params=PATCH,
    )


def test_run_has_all_parameters_once_the_files_are_uploaded(
    aws: Emulator, cloud: Installation
) -> None:
    bucket = cloud.outputs()["Dags"]
    with cloud.airflow_files() as (_, put):
        first = put(False)
        assert cloud.lacking("run", first.versions) == set()
        # DAGs take effect at once, so they are uploaded after the packages that they import.
        listed = aws.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
        assert not [each["Key"] for each in listed if each["Key"].startswith("dags/")]
        again = put(True)
    assert again.versions == first.versions
    assert "dags/score_images.py" in again.changed
