"""Rescoring of old images with a new model, and the report of the changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner

from infra.stack import Stack
from moodlake.cli import app
from moodlake.inference.bundle import read_meta
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources import storage
from moodlake.settings import RELEASED_ARCHIVE
from tests.bundles import write_archive
from tests.e2e.steps import fill, finish, wait_for_run
from tests.images_made import astronaut, jpeg

pytestmark = pytest.mark.e2e

KEYS = [*(f"old/{number}.jpg" for number in range(5)), "old/astronaut.png"]


def test_a_rescore_with_a_new_model_is_reported(
    stack: Stack, s3: BaseClient, tmp_path: Path
) -> None:
    images = {key: jpeg(number) for number, key in enumerate(KEYS)}
    fill(s3, "rescored", images | {"old/astronaut.png": astronaut(), "old/text.jpg": b"no"})
    finish(stack, "scored", RunParams("rescored", faces="none"))
    archive = write_archive(tmp_path / "eight.mar", version="8.0")
    released, newer = read_meta(RELEASED_ARCHIVE), read_meta(archive)
    stack.versions.add(archive)
    stack.use_version("8.0")
    try:
        conf = {"bucket": "rescored", "prefix": "old/", "shard_size": 4}
        conf["against"] = released["digest"][:10]
        run_id = stack.airflow.client.trigger("rescore", conf)
        assert wait_for_run(stack, run_id, "rescore") == "success"
    finally:
        stack.use_version(released["version"])
        stack.versions.remove("8.0")
    page = storage.read_bytes(f"{stack.settings.results_uri}/reports/{run_id}/diff.html")
    assert page is not None
    text = page.decode()
    assert f"emotions {released['version']} → 8.0" in text
    assert all(key in text for key in KEYS)
    assert "data:image" not in text

    out = tmp_path / "diff.html"
    command = ["diff", released["digest"][:8], newer["digest"][:8], "--bucket", "rescored"]
    done = CliRunner().invoke(app, [*command, "--out", str(out), "--thumbnails"])
    assert done.exit_code == 0, done.output
    assert f"{len(KEYS)} images scored by both" in done.output
    assert out.read_text("utf-8").count("data:image/jpeg") == len(KEYS)


def test_a_rescore_without_another_model_fails_in_its_report_task(
    stack: Stack, s3: BaseClient
) -> None:
    fill(s3, "once", {"a.jpg": jpeg()})
    run_id = stack.airflow.client.trigger("rescore", {"bucket": "once"})
    assert wait_for_run(stack, run_id, "rescore") == "failed"
    states = {
        task.task_id: task.state for task in stack.airflow.client.task_instances("rescore", run_id)
    }
    assert states == {
        "plan_shards": "success", "score": "success", "publish": "success", "report": "failed"
    }  # fmt: skip
