"""Data and models are shared through a bucket: push, pull, import."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.ports import Ports
from infra.local.s3 import S3Service
from infra.local.service import BIN
from moodlake.local_stack import without_aws
from moodlake.scoring.sources.s3 import s3_client
from moodlake.settings import PROJECT_ROOT
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e

PIPELINE = """\
stages:
  prepare:
    cmd: mkdir -p prepared && cat data/photos/* > prepared/all
    deps: [data/photos]
    outs: [prepared]
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What leads to an S3 server with the bucket `remote` and a photo in the bucket `photos`."""
    with S3Service(tmp_path_factory.mktemp("s3"), Ports.free(), ("remote", "photos")) as server:
        server.wait()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment().items():
                patch.setenv(name, value)
            s3_client().put_object(Bucket="photos", Key="2026/a.jpg", Body=jpeg(1))
            yield server.environment()


class Checkout:
    """A repository, and the commands that a person gives in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        author = {
            f"GIT_{who}_{what}": "nobody@example.com"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        self._environment = {**without_aws(os.environ), **author, **environment}

    def __call__(self, *command: str) -> str:
        program = str(BIN / "dvc") if command[0] == "dvc" else command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def commit(self) -> None:
        self("git", "add", ".")
        self("git", "commit", "-qm", "a state")


@pytest.fixture(scope="module")
def pushed(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository whose data and results are in the bucket."""
    checkout = Checkout(tmp_path_factory.mktemp("pushed"), s3)
    photos = checkout.folder / "data" / "photos"
    photos.mkdir(parents=True)
    for number in range(3):
        (photos / f"{number}.jpg").write_bytes(jpeg(number))
    (checkout.folder / "dvc.yaml").write_text(PIPELINE)
    checkout("git", "init", "-q")
    checkout("dvc", "init", "-q")
    shutil.copy(PROJECT_ROOT / ".dvc" / "config", checkout.folder / ".dvc")
    checkout("dvc", "remote", "add", "-d", "shared", "s3://remote/dvc")
    checkout("dvc", "add", "-q", "data/photos")
    checkout("dvc", "repro", "-q")
    checkout.commit()
    checkout("dvc", "push", "-q", "--run-cache")
    return checkout


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".gitignore"}


def cloned(pushed: Checkout, folder: Path, s3: dict[str, str]) -> Checkout:
    checkout = Checkout(folder, s3)
    checkout("git", "clone", "-q", str(pushed.folder), ".")
    return checkout


def test_a_clone_pulls_data_and_results(
    pushed: Checkout, s3: dict[str, str], tmp_path: Path
) -> None:
    clone = cloned(pushed, tmp_path, s3)
    assert not (tmp_path / "data" / "photos").exists()
    clone("dvc", "pull", "-q")
    for folder in ("data/photos", "prepared"):
        assert files(tmp_path / folder) == files(pushed.folder / folder)
    assert "up to date" in clone("dvc", "repro")


def test_results_of_another_run_are_fetched_instead_of_computed(
    pushed: Checkout, s3: dict[str, str], tmp_path: Path
) -> None:
    clone = cloned(pushed, tmp_path, s3)
    (tmp_path / "dvc.lock").unlink()
    output = clone("dvc", "repro", "--pull")
    assert "is cached" in output
    assert files(tmp_path / "prepared") == files(pushed.folder / "prepared")


def test_another_repository_imports_data_of_this_one(
    pushed: Checkout, s3: dict[str, str], tmp_path: Path
) -> None:
    other = Checkout(tmp_path, s3)
    other("git", "init", "-q")
    other("dvc", "init", "-q")
    other("dvc", "import", "-q", str(pushed.folder), "data/photos")
    assert files(tmp_path / "photos") == files(pushed.folder / "data" / "photos")
    assert str(pushed.folder) in (tmp_path / "photos.dvc").read_text()


def test_a_bucket_of_images_is_imported_and_updated(s3: dict[str, str], tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, s3)
    checkout("git", "init", "-q")
    checkout("dvc", "init", "-q")
    checkout("dvc", "import-url", "-q", "s3://photos/2026", "photos")
    assert files(tmp_path / "photos") == {"a.jpg": jpeg(1)}
    s3_client().put_object(Bucket="photos", Key="2026/b.jpg", Body=jpeg(2))
    checkout("dvc", "update", "-q", "photos.dvc")
    assert files(tmp_path / "photos") == {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
