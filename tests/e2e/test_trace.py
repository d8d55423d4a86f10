"""`moodlake trace`: from a row back to its run, model, training data and parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner

from infra.stack import Stack
from moodlake.cli import app
from moodlake.inference.bundle import read_meta
from moodlake.scoring.run.params import RunParams
from moodlake.settings import RELEASED_ARCHIVE
from tests.bundles import write_archive
from tests.e2e.steps import fill, finish
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e

KEY = "2026/a b+é.jpg"


def trace(*arguments: str) -> str:
    """Return the output of `moodlake trace`, after the exit code if it failed."""
    done = CliRunner().invoke(app, ["trace", *arguments])
    return done.output if done.exit_code == 0 else f"exit code {done.exit_code}: {done.output}"


def test_every_row_of_an_object_is_traced(stack: Stack, s3: BaseClient, tmp_path: Path) -> None:
    fill(s3, "traced", {KEY: jpeg(), "other.jpg": jpeg(1)})
    finish(stack, "traced-1", RunParams("traced", faces="none"))
    provenance = {"data_name": "made up", "data_digest": "d1", "params": {"train": {"epochs": 3}}}
    archive = write_archive(tmp_path / "nine.mar", version="9.0", provenance=provenance)
    released, newer = read_meta(RELEASED_ARCHIVE), read_meta(archive)
    stack.versions.add(archive)
    stack.use_version("9.0")
    try:
        finish(stack, "traced-2", RunParams("traced", prefix="2026/", faces="none"))
    finally:
        stack.use_version(released["version"])
        stack.versions.remove("9.0")
    output = trace(KEY, "--bucket", "traced")
    newest, older = output.split("\ntraced/")
    for words in (newer["digest"], "data", "made up", "d1", "train.epochs: 3", "prefix: 2026/"):
        assert words in newest
    params = released["provenance"]["params"]
    for words in (
        *(released["digest"], released["provenance"]["data_digest"], "started by: "),
        f"train.learning_rate: {params['train']['learning_rate']}",
        f"accuracy: {released['provenance']['metrics']['accuracy']}",
    ):
        assert words in older
    assert "superseded" not in output


def test_an_overwritten_object_keeps_its_older_row(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "overwritten", {"one.jpg": jpeg()})
    finish(stack, "written", RunParams("overwritten", faces="none"))
    s3.put_object(Bucket="overwritten", Key="one.jpg", Body=jpeg(1))
    finish(stack, "overwritten", RunParams("overwritten", faces="none"))
    output = trace("one.jpg", "--bucket", "overwritten")
    assert output.count("overwritten/one.jpg") == 2
    assert output.count("superseded by a newer version") == 1


def test_a_key_without_rows_is_reported(stack: Stack) -> None:
    assert "no row of 'nowhere.jpg'" in trace("nowhere.jpg")
