"""`moodlake score`: folders, files and ZIPs in; CSV, Parquet and Delta out."""

from __future__ import annotations

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
    for _ in range(2):
        score(archive, folder, "--out", tmp_path / "lake")
    assert DeltaTable(tmp_path / "lake").to_pyarrow_table().num_rows == 23


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("absent", "out.csv", "no such file or folder"),
        ("images", "out.xlsx", ".csv or .parquet"),
        ("images", "absent/out.csv", "make it first"),
    ],
)
def test_what_cannot_work_is_told_and_leaves_nothing(
    archive: Path, folder: Path, tmp_path: Path, source: str, out: str, message: str
) -> None:
    arguments = [str(tmp_path / source), "--out", str(tmp_path / out), "--model", str(archive)]
    result = runner.invoke(app, ["score", *arguments])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_dead_server_is_told(folder: Path, tmp_path: Path) -> None:
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
