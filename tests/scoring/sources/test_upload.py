"""What `moodlake put` sends, and what it does not: a real client, a store on loopback."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from moodlake.inference.decoding import Limits
from moodlake.scoring.sources.objects import SetupError, SourceError
from moodlake.scoring.sources.s3 import s3_client
from moodlake.scoring.sources.upload import gather, send


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def put(*paths: Path, prefix: str = "") -> dict[str, str | None]:
    sent = send(s3_client(), "bucket", gather(paths, prefix))
    return {upload.key: problem for upload, problem in sent}


def test_folders_files_and_zips_keep_their_names(store: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a b+é.jpg").write_bytes(b"one")
    (tmp_path / "folder" / ".hidden").write_bytes(b"no")
    (tmp_path / "two.jpg").write_bytes(b"two")
    members = {"three.jpg": b"three", "__MACOSX/._three.jpg": b"no"}
    archive = zipped(tmp_path / "more.zip", members)
    put(tmp_path / "folder", tmp_path / "two.jpg", archive, prefix="2026/")
    assert store == {
        "/bucket/2026/deep/a b+é.jpg": b"one",
        "/bucket/2026/two.jpg": b"two",
        "/bucket/2026/three.jpg": b"three",
    }


def test_a_file_that_cannot_be_sent_hurts_no_other(store: dict[str, bytes], tmp_path: Path) -> None:
    names = ["../results/x", "/etc/x", "a//b", "x" * 1100]
    members = {
        **dict.fromkeys(names, b"x"),
        "large": bytes(Limits().max_bytes + 1),
        "sound": b"x",
        "last": b"damaged",
    }
    archive = zipped(tmp_path / "strange.zip", members)
    archive.write_bytes(archive.read_bytes().replace(b"damaged", b"DAMAGED"))
    problems = put(archive)
    assert store == {"/bucket/sound": b"x"}
    assert problems.pop("sound") is None
    assert all(problems.values())
    assert len(problems) == len(members) - 1


def test_two_files_of_one_key_are_refused_before_any_is_sent(
    store: dict[str, bytes], tmp_path: Path
) -> None:
    for folder in ("jan", "feb"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "001.jpg").write_bytes(folder.encode())
    with pytest.raises(
        SourceError, match=r"jan/001.jpg and .*feb/001.jpg would both get the key 001.jpg"
    ):
        put(tmp_path / "jan", tmp_path / "feb")
    assert store == {}


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no files in"):
        gather([tmp_path])


@pytest.mark.parametrize(
    ("bucket", "words"), [("absent", "does not exist"), ("my bucket", "not a valid bucket name")]
)
def test_an_invalid_or_missing_bucket_is_an_error(
    store: dict[str, bytes], tmp_path: Path, bucket: str, words: str
) -> None:
    (tmp_path / "one.jpg").write_bytes(b"one")
    with pytest.raises(SetupError, match=words):
        list(send(s3_client(), bucket, gather([tmp_path])))
    assert store == {}
