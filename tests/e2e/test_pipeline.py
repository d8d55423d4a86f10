"""Photos in a bucket become rows in a table, with all services real."""

from __future__ import annotations

from pathlib import Path

import httpx
import pandas as pd
import pytest
from botocore.client import BaseClient
from PIL import Image
from typer.testing import CliRunner

import moodlake.scoring.sources.s3
from infra.local.ports import HOST, Ports
from infra.stack import Stack, StackError, attach
from moodlake.cli import app
from moodlake.inference.model import Model
from moodlake.scoring import pipeline
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.sources.s3 import ObjectReader, list_bucket
from moodlake.scoring.tables.runs import latest_run
from moodlake.serving.client import ServerClient
from moodlake.settings import RELEASED_ARCHIVE
from tests.e2e.steps import addresses_of, fill, finish, rows_of, run_dag
from tests.images_made import (
    animated_gif,
    astronaut,
    astronaut_image,
    encode,
    jpeg,
    png_bomb,
    sixteen_bit_png,
)

pytestmark = pytest.mark.e2e

ASTRONAUT_JPEG = encode(astronaut_image(), "JPEG", quality=95)


def test_airflow_turns_photos_into_rows(stack: Stack, s3: BaseClient) -> None:
    zoo = {
        "astronaut.png": astronaut(),
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "truncated.jpg": ASTRONAUT_JPEG[:9000],
        "bomb.png": png_bomb(),
        "cmyk.jpg": encode(Image.new("CMYK", (64, 64)), "JPEG"),
        "sixteen.png": sixteen_bit_png(),
        "animated.gif": animated_gif(),
        "folder/": b"",
        "a b+é ü&?.jpg": ASTRONAUT_JPEG,
    }
    fill(s3, "zoo", zoo)
    assert run_dag(stack, bucket="zoo", shard_size=4) == "success"
    rows = rows_of(stack, "zoo")
    assert sorted(rows.index) == sorted(zoo)
    assert rows.loc["astronaut.png", "dominant"] == "happiness"
    assert rows.loc["a b+é ü&?.jpg", "dominant"] == "happiness"
    reasons = rows["reason"].dropna().to_dict()
    assert reasons == {
        "empty.jpg": "empty",
        "folder/": "empty",
        "text.jpg": "not_an_image",
        "truncated.jpg": "truncated",
        "bomb.png": "too_many_pixels",
        "cmyk.jpg": "no_face",
        "sixteen.png": "no_face",
        "animated.gif": "no_face",
    }
    run_id = rows["run_id"].iloc[0]
    record = latest_run(stack.settings.runs_table, run_id)
    assert record
    assert stack.airflow.client.run_state(record["dag_id"], run_id) == "success"
    report = storage.read_bytes(f"{stack.settings.results_uri}/reports/{run_id}/run.html")
    assert report
    assert b"s3://zoo/" in report
    finish(stack, "zoo-again", RunParams("zoo"))
    assert len(rows_of(stack, "zoo")) == len(zoo)


def test_all_processes_listen_on_the_loopback_address_only(stack: Stack) -> None:
    assert addresses_of(stack) == {HOST}


def test_a_second_stack_does_not_disturb_the_first(stack: Stack) -> None:
    second = Stack(stack.state, Ports.free())
    with pytest.raises(StackError, match="already runs"), second:
        pass
    assert [item.ready for item in attach(stack.state).status()] == [True] * 4


def test_the_put_command_uploads_files(stack: Stack, s3: BaseClient, tmp_path: Path) -> None:
    fill(s3, "dropped", {})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "é.jpg").write_bytes(ASTRONAUT_JPEG)
    command = ["put", str(tmp_path), "--prefix", "2026/", "--state", str(stack.state)]
    done = CliRunner().invoke(app, [*command, "--bucket", "dropped"])
    assert (done.exit_code, done.output) == (0, "1 files -> s3://dropped/2026/\n")
    assert s3.get_object(Bucket="dropped", Key="2026/deep/é.jpg")["Body"].read() == ASTRONAUT_JPEG
    done = CliRunner().invoke(app, [*command, "--bucket", "no-such-bucket"])
    assert done.exit_code == 1
    assert "'no-such-bucket' does not exist" in done.output
    assert "files ->" not in done.output


def test_the_status_command_lists_each_service_and_its_address(stack: Stack) -> None:
    done = CliRunner().invoke(app, ["status", "--state", str(stack.state)])
    assert done.exit_code == 0
    assert [line.split(" at ")[0] for line in done.output.splitlines()] == [
        f"✓ {service.name}" for service in stack.services
    ]
    assert f"{stack.ports.metrics}/metrics" in done.output


def test_a_missing_bucket_fails_the_run(stack: Stack) -> None:
    command = ["run", "--bucket", "no-such-bucket", "--state", str(stack.state)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "plan_shards failed x1" in done.output
    assert "failed in plan_shards" in done.output
    assert "bucket 'no-such-bucket' does not exist" in done.output


def test_the_server_scores_as_the_model_in_process_does(stack: Stack) -> None:
    images = [astronaut(), b"", ASTRONAUT_JPEG]
    server = ServerClient(stack.settings.server_url, stack.settings.server_keys)
    assert server.score(images) == Model.load(RELEASED_ARCHIVE).score(images)


def test_an_image_as_the_body_is_scored(stack: Stack) -> None:
    response = httpx.post(
        f"{stack.settings.server_url}/predictions/emotions",
        content=astronaut(),
        headers={"Authorization": f"Bearer {stack.gateway.token}"},
    )
    assert response.json()["predictions"][0]["dominant"] == "happiness"


def test_an_invalid_body_is_rejected_with_a_message(stack: Stack) -> None:
    response = httpx.post(
        f"{stack.settings.server_url}/predictions/emotions",
        json={"image": "here"},
        headers={"Authorization": f"Bearer {stack.gateway.token}"},
    )
    assert response.status_code == 422
    assert "instances" in response.json()["message"]


def test_the_run_env_and_table_commands(
    stack: Stack, s3: BaseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(s3, "commanded", {"in/one.png": astronaut(), "out/two.png": astronaut()})

    def moodlake(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--state", str(stack.state)])
        assert result.exit_code == 0, result.output
        return result.output

    assert f"export AWS_ENDPOINT_URL={stack.s3.url}" in moodlake("env").splitlines()
    output = moodlake("run", "--bucket", "commanded", "--prefix", "in/")
    assert "1 scored, 0 rejected; `moodlake table --run manual" in output
    assert "nothing new" in moodlake("run", "--bucket", "commanded", "--prefix", "in/")
    assert list(rows_of(stack, "commanded").index) == ["in/one.png"]
    assert "happiness" in moodlake("table")
    assert "READY" not in moodlake("status")


def test_the_score_command_uses_the_server(stack: Stack, s3: BaseClient, tmp_path: Path) -> None:
    fill(s3, "by-hand", {"one.png": astronaut(), "two.jpg": b"no"})
    out = tmp_path / "out.csv"
    url = stack.settings.server_url
    arguments = ["score", "s3://by-hand", "--endpoint", url, "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(out).set_index("key")
    assert rows.loc["one.png", "dominant"] == "happiness"
    assert rows.loc["two.jpg", "reason"] == "not_an_image"


def test_wrong_credentials_are_reported(stack: Stack, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["score", "s3://zoo", "--out", str(tmp_path / "out.csv")],
        env={"AWS_SECRET_ACCESS_KEY": "wrong"},
    )
    assert result.exit_code == 1
    assert "AWS_SECRET_ACCESS_KEY" in result.output
    assert not list(tmp_path.iterdir())


def test_an_object_deleted_or_changed_before_it_is_read_has_a_row(
    stack: Stack, s3: BaseClient
) -> None:
    fill(s3, "leaving", {"here.jpg": jpeg(1), "gone.jpg": jpeg(2), "changed.jpg": jpeg(3)})
    params = RunParams("leaving", faces="none")
    shards = pipeline.plan_run("leaving-1", params, stack.settings)
    s3.delete_object(Bucket="leaving", Key="gone.jpg")
    s3.put_object(Bucket="leaving", Key="changed.jpg", Body=jpeg(4))
    assert [pipeline.score_shard("leaving-1", shard, stack.settings) for shard in shards] == [3]
    pipeline.publish("leaving-1", stack.settings)
    rows = rows_of(stack, "leaving")
    assert rows["reason"].dropna().to_dict() == {"gone.jpg": "vanished", "changed.jpg": "vanished"}


def test_existing_objects_are_read_without_boto3(
    stack: Stack, s3: BaseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads them; boto3 is for errors and for keys that obstore cannot request."""
    keys = ("a b+é ü&?%41.jpg", "日本/😀'\".jpg", "#[]{}|^~*<>.jpg")
    fill(s3, "signed", {key: jpeg(number) for number, key in enumerate(keys)})
    reader = ObjectReader("signed")
    monkeypatch.setattr(moodlake.scoring.sources.s3, "read_object", None)
    for item in list_bucket(s3, "signed"):
        assert reader.read(item) == jpeg(keys.index(item.key))


def test_planning_a_missing_bucket_is_reported(stack: Stack) -> None:
    with pytest.raises(SourceError, match="does not exist; create it"):
        pipeline.plan_run("nowhere", RunParams("no-such-bucket"), stack.settings)
