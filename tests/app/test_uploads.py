from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import pytest

from app.uploads import MAX_FILES, UploadError, source_of
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.sources.objects import SourceError
from tests.images_made import jpeg


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_file_is_itself() -> None:
    source = source_of("face.jpg", jpeg())
    (item,) = source.objects
    assert (item.key, item.size) == ("face.jpg", len(jpeg()))
    assert source.read(item) == jpeg()


def test_a_zip_is_its_files_in_folders_too() -> None:
    data = zipped({"a.jpg": jpeg(1), "deep/er/b.jpg": jpeg(2), ".hidden.jpg": b"", "deep/": b""})
    source = source_of("photos.zip", data)
    assert {item.key: source.read(item) for item in source.objects} == {
        "a.jpg": jpeg(1), "deep/er/b.jpg": jpeg(2)
    }  # fmt: skip


def test_paths_that_climb_are_names_and_nothing_more() -> None:
    source = source_of("climb.zip", zipped({"../../etc/passwd": b"x", "/root/a.jpg": jpeg()}))
    assert {item.key for item in source.objects} == {"../../etc/passwd", "/root/a.jpg"}
    assert [len(source.read(item)) for item in source.objects] == [1, len(jpeg())]


def test_a_zip_in_a_zip_is_not_opened() -> None:
    source = source_of("outer.zip", zipped({"inner.zip": zipped({"a.jpg": jpeg()})}))
    (item,) = source.objects
    with pytest.raises(Rejected, match="a ZIP inside the ZIP") as caught:
        source.read(item)
    assert caught.value.reason is Reason.NOT_AN_IMAGE


def test_a_zip_of_too_many_files_says_what_to_do() -> None:
    data = zipped({f"{number}.jpg": b"x" for number in range(MAX_FILES + 1)})
    with pytest.raises(UploadError, match=r"holds 1,001 files.*moodlake score many.zip"):
        source_of("many.zip", data)


def test_a_zip_of_very_many_files_is_refused_before_its_directory_is_read() -> None:
    data = zipped({"a.jpg": b""})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    data = data[:start] + 300_000 * data[start:end]
    data += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(data) - start, start, 0)
    tracemalloc.start()
    try:
        with pytest.raises(UploadError, match="holds some 300,000 files"):
            source_of("many.zip", data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_by_what_it_says_it_unpacks_to() -> None:
    data = zipped({f"{n}.bmp": bytes(60_000_000) for n in range(17)}, zipfile.ZIP_DEFLATED)
    assert len(data) < 2_000_000
    with pytest.raises(UploadError, match="unpacks to 1,020 MB"):
        source_of("bomb.zip", data)


def lying(compression: int) -> bytes:
    """A ZIP of 80 MB that says to hold 16 bytes."""
    size = struct.pack("<I", 80_000_000)
    data = zipped({"a.bmp": bytes(80_000_000)}, compression)
    assert data.count(size) == 2
    return data.replace(size, struct.pack("<I", 16))


@pytest.mark.parametrize(
    ("compression", "words"),
    [(zipfile.ZIP_DEFLATED, "damaged in the ZIP"), (zipfile.ZIP_BZIP2, "method 12")],
)
def test_a_bomb_that_lies_about_its_size_is_not_unpacked(compression: int, words: str) -> None:
    data = lying(compression)
    tracemalloc.start()
    try:
        source = source_of("lies.zip", data)
        (item,) = source.objects
        assert item.size == 16
        with pytest.raises(Rejected, match=words):
            source.read(item)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"PK\x03\x04 and no more", SourceError, "cannot be read as a ZIP"),
        (b"no ZIP at all", SourceError, "cannot be read as a ZIP"),
        (zipped({}), UploadError, "holds no files"),
    ],
)
def test_what_is_no_whole_zip_is_told(data: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        source_of("bad.zip", data)


def test_an_encrypted_member_is_rejected_with_the_reason() -> None:
    data = bytearray(zipped({"secret.jpg": jpeg()}))
    data[6] |= 1  # the flag, in the member's header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    source = source_of("secret.zip", bytes(data))
    (item,) = source.objects
    with pytest.raises(Rejected, match="encrypted"):
        source.read(item)
