"""Two versions of the model side by side, and a switch between them under load."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from infra.local.server import ModelServer
from infra.local.versions import VersionError, Versions
from moodlake.inference.model import Model
from moodlake.serving.client import ServerClient
from moodlake.settings import PROJECT_ROOT
from tests.bundles import write_archive
from tests.images_made import jpeg
from tests.serving.test_server import PATH


@pytest.fixture(scope="module")
def newer(own: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of version 2.0, served beside 1.0."""
    archive = write_archive(tmp_path_factory.mktemp("newer") / "two.mar", seed=1, version="2.0")
    added = Versions(own.torchserve, own.gateway).add(archive)
    assert (added.version, added.ready, added.default) == ("2.0", True, False)
    return archive


def test_switching_versions_loses_no_request(own: ModelServer, newer: Path) -> None:
    versions = Versions(own.torchserve, own.gateway)
    digests = {path: Model.load(path).identity.digest for path in (own.archive, newer)}
    pinned = ServerClient(own.gateway.url, own.gateway.keys)
    seen: Counter[tuple[int, str]] = Counter()
    over = threading.Event()

    def ask() -> None:
        with own.http() as http:
            while not over.is_set():
                answer = http.post(PATH, content=jpeg())
                result = answer.json()["model"]["digest"] if answer.is_success else answer.text
                seen[answer.status_code, result] += 1

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for version, archive in (("2.0", newer), ("1.0", own.archive), ("2.0", newer)):
                assert versions.use(version).default
                ready = httpx.get(f"{own.gateway.url}/ready")
                assert (ready.status_code, ready.json()["digest"]) == (200, digests[archive])
            # A run keeps the version that it began with.
            assert pinned.score([jpeg()]) == Model.load(own.archive).score([jpeg()])
            versions.use("1.0")
        finally:
            over.set()
        for future in asking:
            future.result()
    assert set(seen) == {(200, digest) for digest in digests.values()}


def test_a_request_can_name_a_version(own: ModelServer, newer: Path) -> None:
    with own.http() as http:
        for version, archive in (("1.0", own.archive), ("2.0", newer)):
            answer = http.post(f"{PATH}/{version}", content=jpeg()).json()
            assert answer["model"]["digest"] == Model.load(archive).identity.digest


def test_invalid_changes_of_versions_are_errors(
    own: ModelServer, newer: Path, tmp_path: Path
) -> None:
    versions = Versions(own.torchserve, own.gateway)
    with pytest.raises(VersionError, match=r"1\.0 is the default"):
        versions.remove("1.0")
    with pytest.raises(VersionError, match=r"served are 1\.0, 2\.0"):
        versions.use("3.0")
    with pytest.raises(VersionError, match=r"2\.0 is already served"):
        versions.add(newer)
    assert [each.version for each in versions.all()] == ["1.0", "2.0"]


def test_an_archive_that_runs_cannot_use_is_rejected(
    own: ModelServer, newer: Path, tmp_path: Path
) -> None:
    """Its handler, of an early version, describes less of its model."""
    made = write_archive(tmp_path / "made.mar", seed=2, version="3.0")
    older = tmp_path / "older.mar"
    with ZipFile(made) as source, ZipFile(older, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "entry_point.py":
                call = b"describe(self.model)"
                content = (PROJECT_ROOT / "handlers" / "emotion_handler.py").read_bytes()
                assert call in content
                content = content.replace(call, b'{"model": ' + call + b'["model"]}')
            target.writestr(name, content)
    versions = Versions(own.torchserve, own.gateway)
    with pytest.raises(VersionError, match=r"cannot be used: .* lacks 'label_space'.* pack it"):
        versions.add(older)
    assert [each.version for each in versions.all()] == ["1.0", "2.0"]


def test_an_archive_with_a_copy_of_an_older_handler_is_served(
    own: ModelServer, newer: Path, tmp_path: Path
) -> None:
    """As archives up to version 3.2 are; their handlers import modules that have moved."""
    made = write_archive(tmp_path / "made.mar", seed=3, version="4.0")
    older = tmp_path / "older.mar"
    with ZipFile(made) as source, ZipFile(older, "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b"entry_point.py", b"emotion_handler.py")
            if name == "entry_point.py":
                name, content = "emotion_handler.py", b"from moodlake.model import Model"
            target.writestr(name, content)
    versions = Versions(own.torchserve, own.gateway)
    assert versions.add(older).ready
    with own.http() as http:
        answer = http.post(f"{PATH}/4.0", content=jpeg()).json()
    assert answer["model"]["digest"] == Model.load(older).identity.digest
    versions.remove("4.0")


def test_a_version_can_be_removed(own: ModelServer, newer: Path) -> None:
    versions = Versions(own.torchserve, own.gateway)
    versions.remove("2.0")
    assert [each.version for each in versions.all()] == ["1.0"]
    with own.http() as http:
        assert http.post(f"{PATH}/2.0", content=jpeg()).status_code == 404
        assert http.post(PATH, content=jpeg()).status_code == 200
