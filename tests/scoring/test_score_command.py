"""`moodlake score`: folders, files and ZIPs in; CSV, Parquet and Delta out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from moodlake.cli import app
from tests.bundles import write_archive
from tests.images_made import jpeg

runner = CliRunner()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("model") / "emotions.mar")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for number in range(20):
        (images / f"{number:02d}.jpg").write_bytes(jpeg(number))
    (images / "deep" / "a b+é.jpg").write_bytes(jpeg(99))
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.png").write_text("not an image")
    return images


def score(archive: Path, *arguments: object) -> str:
    result = runner.invoke(app, ["score", *map(str, arguments), "--model", str(archive)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_folder_to_csv(archive: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert "21 scored, 2 rejected" in score(archive, folder, "--out", out).replace("\n", " ")
    rows = pd.read_csv(out).set_index("key")
    assert len(rows) == 23
    assert rows.loc["empty.jpg", "reason"] == "empty"
    assert rows.loc["text.png", "reason"] == "not_an_image"
    assert rows.loc["deep/a b+é.jpg", "status"] == "scored"
    assert rows.loc["00.jpg", "neutral":"contempt"].astype(float).sum() == pytest.approx(
        1, abs=1e-3
    )


def test_a_zip_and_a_file_to_parquet(archive: Path, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as target:
        for path in folder.glob("0*.jpg"):
            target.write(path, f"in/{path.name}")
    out = tmp_path / "out.parquet"
    score(archive, packed, folder / "19.jpg", "--out", out)
    rows = pd.read_parquet(out)
    assert len(rows) == 11
    assert set(rows["status"]) == {"scored"}


def test_delta_takes_each_file_once(archive: Path, folder: Path, tmp_path: Path) -> None:
    assert "already" not in score(archive, folder, "--out", tmp_path / "lake")
    assert "23 images already have rows" in score(archive, folder, "--out", tmp_path / "lake")
    assert DeltaTable(tmp_path / "lake").to_pyarrow_table().num_rows == 23


def test_a_folder_beside_this_one(
    archive: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is hidden inside the folder is left out, not what is reached by a dot."""
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "small.jpg").write_bytes(jpeg(1))
    monkeypatch.chdir(folder / "deep")
    assert "21 scored, 2 rejected" in score(archive, "..", "--out", tmp_path / "out.csv")


def test_odd_names_and_members_cost_no_neighbour(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(1))
    (folder / "plain.jpg").write_bytes(jpeg(2))
    packed = tmp_path / "odd.zip"
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr("undated.jpg", jpeg(3))
        target.writestr("damaged.jpg", jpeg(4), zipfile.ZIP_LZMA)
    data = bytearray(packed.read_bytes())
    for header, offset in ((b"PK\x03\x04", 10), (b"PK\x01\x02", 12)):
        start = data.index(header) + offset
        data[start : start + 4] = bytes(4)  # time and date of the first member
    middle = data.rindex(b"damaged.jpg", 0, data.index(b"PK\x01\x02")) + 200
    data[middle : middle + 40] = bytes(40)
    packed.write_bytes(data)
    out = tmp_path / "out.csv"
    score(archive, folder, packed, "--out", out)
    rows = pd.read_csv(out).set_index("key")
    assert sorted(rows.index) == ["caf\\xe9.jpg", "damaged.jpg", "plain.jpg", "undated.jpg"]
    assert rows["reason"].dropna().to_dict() == {"damaged.jpg": "truncated"}


@pytest.mark.slow
def test_termination_leaves_no_half_written_file(
    archive: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    for number in range(3000):
        (folder / f"more{number}.jpg").write_bytes(jpeg(number % 7))
    command = [sys.executable, "-c", "from moodlake.cli import app; app()", "score", str(folder)]
    with subprocess.Popen([*command, "--out", str(out), "--model", str(archive)]) as running:
        while not (tmp_path / "out.csv.part").exists():
            assert running.poll() is None
            time.sleep(0.01)
        running.terminate()
    assert running.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("images/deep/none", "out.csv", "no files in"),
        ("absent", "out.csv", "no such file or folder"),
        ("images", "out.xlsx", ".csv or .parquet"),
        ("images", "absent/out.csv", "create it first"),
    ],
)
def test_an_invalid_command_is_an_error_and_leaves_no_file(
    archive: Path, folder: Path, tmp_path: Path, source: str, out: str, message: str
) -> None:
    (folder / "deep" / "none").mkdir()
    arguments = [str(tmp_path / source), "--out", str(tmp_path / out), "--model", str(archive)]
    result = runner.invoke(app, ["score", *arguments])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_an_unreachable_server_is_an_error(folder: Path, tmp_path: Path) -> None:
    arguments = [
        str(folder),
        "--out",
        str(tmp_path / "out.csv"),
        "--endpoint",
        "http://127.0.0.1:9",
    ]
    result = runner.invoke(app, ["score", *arguments])
    assert result.exit_code == 1
    assert "moodlake up" in result.output
    assert not (tmp_path / "out.csv").exists()
