"""Listings that S3 wrote itself: in each format, as its documentation shows them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import orc
from pyarrow import parquet as pq

from moodlake.scoring.sources.inventory import inventory_pages
from moodlake.scoring.sources.objects import SetupError, SourceError, objects_of

CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"
OTHER_SCHEMA = "message s3.inventory { bucket key version_id is_latest is_delete_marker size "
OTHER_SCHEMA += "last_modified_date e_tag }"
CHANGED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Key, as CSV writes it, version, latest, delete marker, size, ETag.
ROWS = [
    ("2026/a b+é.jpg", "2026/a+b%2B%C3%A9.jpg", "v2", True, False, 10, "e1"),
    ("2026/a b+é.jpg", "2026/a+b%2B%C3%A9.jpg", "v1", False, False, 11, "e0"),
    ("2026/gone.jpg", "2026/gone.jpg", "v3", True, True, None, None),
    ("2025/old.jpg", "2025/old.jpg", "v4", True, False, 12, "e2"),
]


def write_csv(path: Path) -> None:
    lines = [
        f'"photos","{coded}","{version}","{str(latest).lower()}","{str(marker).lower()}",'
        f'"{"" if size is None else size}","2026-01-02T03:04:05.000Z","{etag or ""}"\n'
        for _, coded, version, latest, marker, size, etag in ROWS
    ]
    path.write_bytes(gzip.compress("".join(lines).encode()))


def as_table() -> pa.Table:
    key, _, version, latest, marker, size, etag = zip(*ROWS, strict=True)
    return pa.table(
        {
            "bucket": ["photos"] * len(ROWS),
            "key": key,
            "version_id": version,
            "is_latest": latest,
            "is_delete_marker": marker,
            "size": pa.array(size, pa.int64()),
            "last_modified_date": pa.array([CHANGED] * len(ROWS), pa.timestamp("ms", "UTC")),
            "e_tag": etag,
        }
    )


@pytest.fixture(params=["CSV", "Parquet", "ORC"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An inventory in a folder that plays the destination bucket."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "one"
    if request.param == "CSV":
        write_csv(file)
    elif request.param == "Parquet":
        pq.write_table(as_table(), file)
    else:
        orc.write_table(as_table(), file)
    return write_manifest(tmp_path, fileFormat=request.param)


def write_manifest(folder: Path, **changed: Any) -> str:
    content = {
        "sourceBucket": "photos",
        "destinationBucket": f"arn:aws:s3:::{folder}",
        "fileFormat": "CSV",
        "files": [{"key": "data/one", "size": 1, "MD5checksum": "x"}],
    } | changed
    content.setdefault("fileSchema", CSV_SCHEMA if content["fileFormat"] == "CSV" else OTHER_SCHEMA)
    path = folder / "manifest.json"
    path.write_text(json.dumps(content), "utf-8")
    return f"file://{path}"


def read(manifest: str, prefix: str = "") -> list[tuple[str, str | None, str, int, str]]:
    return [
        (item.key, item.version_id, item.etag, item.size, item.last_modified)
        for page in inventory_pages(manifest, "photos", prefix)
        for item in objects_of(page, "photos")
    ]


def test_the_newest_versions_are_listed(manifest: str) -> None:
    assert read(manifest) == [
        ("2026/a b+é.jpg", "v2", "e1", 10, CHANGED.isoformat()),
        ("2025/old.jpg", "v4", "e2", 12, CHANGED.isoformat()),
    ]


def test_a_prefix_chooses(manifest: str) -> None:
    assert [row[0] for row in read(manifest, "2025/")] == ["2025/old.jpg"]
    assert read(manifest, "2027/") == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sourceBucket": "others"}, "of bucket 'others', not 'photos'"),
        ({"fileSchema": "Bucket, Key, Size"}, "lacks ETag, LastModifiedDate"),
        ({"fileFormat": "XML"}, "in XML"),
        ({"files": None}, "manifest"),
        ({"files": [{}]}, "manifest"),
        ({"fileSchema": ["Bucket"]}, "manifest"),
        ({"destinationBucket": None}, "manifest"),
    ],
)
def test_an_unusable_manifest_is_an_error(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        read(write_manifest(tmp_path, **changed))


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="data/one"):
        read(write_manifest(tmp_path))


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no inventory at"):
        read(f"file://{tmp_path}/manifest.json")


def test_an_address_of_the_web_is_no_inventory() -> None:
    with pytest.raises(SetupError, match="cannot read an inventory at"):
        read("https://example.com/manifest.json")


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)], ids=["empty", "gzip"])
def test_an_empty_file_lists_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_bytes(content)
    assert read(write_manifest(tmp_path)) == []


def test_rows_that_are_not_whole_are_left_out_and_quotes_of_etags_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    time = "2026-01-02T03:04:05.000Z"
    lines = [
        f'"photos","whole","","true","false","1","{time}","""e-2"""',
        f'"photos","no-size","","true","false","","{time}","e"',
        f'"photos","no-etag","","true","false","1","{time}",""',
        '"photos","no-time","","true","false","1","","e"',
    ]
    (tmp_path / "data" / "one").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read(write_manifest(tmp_path)) == [("whole", None, "e-2", 1, CHANGED.isoformat())]
