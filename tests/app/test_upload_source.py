"""Uploaded files and ZIPs as sources of images."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import pytest

from app.upload_source import MAX_FILES, UploadError, open_upload
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.sources.objects import SourceError
from tests.images_made import jpeg


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_file_is_a_source_of_one_image() -> None:
    source = open_upload("face.jpg", jpeg())
    (item,) = source.objects
    assert (item.key, item.size) == ("face.jpg", len(jpeg()))
    assert source.read(item) == jpeg()


def test_a_zip_is_a_source_of_its_files() -> None:
    data = zipped({"a.jpg": jpeg(1), "deep/er/b.jpg": jpeg(2), ".hidden.jpg": b"", "deep/": b""})
    source = open_upload("photos.zip", data)
    assert {item.key: source.read(item) for item in source.objects} == {
        "a.jpg": jpeg(1), "deep/er/b.jpg": jpeg(2)
    }  # fmt: skip


def test_paths_in_a_zip_are_only_names() -> None:
    source = open_upload("climb.zip", zipped({"../../etc/passwd": b"x", "/root/a.jpg": jpeg()}))
    assert {item.key for item in source.objects} == {"../../etc/passwd", "/root/a.jpg"}
    assert [len(source.read(item)) for item in source.objects] == [1, len(jpeg())]


def test_a_nested_zip_is_not_opened() -> None:
    source = open_upload("outer.zip", zipped({"inner.zip": zipped({"a.jpg": jpeg()})}))
    (item,) = source.objects
    with pytest.raises(Rejected, match="a ZIP inside the ZIP") as caught:
        source.read(item)
    assert caught.value.reason is Reason.NOT_AN_IMAGE


def test_a_zip_with_too_many_files_gets_advice() -> None:
    data = zipped({f"{number}.jpg": b"x" for number in range(MAX_FILES + 1)})
    with pytest.raises(UploadError, match=r"contains 1,001 files.*moodlake score many.zip"):
        open_upload("many.zip", data)


def test_a_zip_with_very_many_files_is_rejected_before_its_directory_is_read() -> None:
    data = zipped({"a.jpg": b""})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    data = data[:start] + 300_000 * data[start:end]
    data += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(data) - start, start, 0)
    tracemalloc.start()
    try:
        with pytest.raises(UploadError, match="contains about 300,000 files"):
            open_upload("many.zip", data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_is_rejected_by_its_declared_size() -> None:
    data = zipped({f"{n}.bmp": bytes(60_000_000) for n in range(17)}, zipfile.ZIP_DEFLATED)
    assert len(data) < 2_000_000
    with pytest.raises(UploadError, match="contains 1,020 MB unpacked"):
        open_upload("bomb.zip", data)


def misdeclared(compression: int) -> bytes:
    """A ZIP of 80 MB that declares a size of 16 bytes."""
    size = struct.pack("<I", 80_000_000)
    data = zipped({"a.bmp": bytes(80_000_000)}, compression)
    assert data.count(size) == 2
    return data.replace(size, struct.pack("<I", 16))


@pytest.mark.parametrize(
    ("compression", "message"),
    [(zipfile.ZIP_DEFLATED, "damaged in the ZIP"), (zipfile.ZIP_BZIP2, "method 12")],
)
def test_a_zip_bomb_with_a_false_size_is_not_unpacked(compression: int, message: str) -> None:
    data = misdeclared(compression)
    tracemalloc.start()
    try:
        source = open_upload("lies.zip", data)
        (item,) = source.objects
        assert item.size == 16
        with pytest.raises(Rejected, match=message):
            source.read(item)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"PK\x03\x04 and no more", SourceError, "cannot be read as a ZIP"),
        (b"no ZIP at all", SourceError, "cannot be read as a ZIP"),
        (zipped({}), UploadError, "contains no files"),
    ],
)
def test_a_damaged_or_empty_zip_is_rejected(
    data: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_upload("bad.zip", data)


def test_an_encrypted_member_is_rejected() -> None:
    data = bytearray(zipped({"secret.jpg": jpeg()}))
    data[6] |= 1  # the flag, in the member's header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    source = open_upload("secret.zip", bytes(data))
    (item,) = source.objects
    with pytest.raises(Rejected, match="encrypted"):
        source.read(item)
