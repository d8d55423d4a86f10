"""What a person names to be scored: a bucket, a folder, a ZIP, a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from moodlake.reasons import Reason, Rejected
from moodlake.scoring.sources.objects import Source, SourceError, SourceObject
from moodlake.scoring.sources.s3 import bucket_source

_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def folder_source(folder: Path) -> Source:
    """All files under `folder`, hidden ones left out, in name order."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path.relative_to(folder).parts)
    )
    return files_source(paths, folder)


def files_source(paths: list[Path], folder: Path | None = None) -> Source:
    """Local files; keys are relative to `folder`, or else their names."""
    named = {
        _readable(str(path.relative_to(folder) if folder else path.name)): path for path in paths
    }

    def describe(key: str, path: Path) -> SourceObject:
        stat = path.stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
        return SourceObject(_readable(str(folder or path.parent)), key, "", stat.st_size, modified)

    def read(item: SourceObject) -> bytes:
        try:
            return named[item.key].read_bytes()
        except FileNotFoundError as error:
            raise Rejected(Reason.VANISHED, str(error)) from error
        except OSError as error:
            raise Rejected(Reason.UNREADABLE, str(error)) from error

    return Source([describe(key, path) for key, path in named.items()], read, len(named))


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def _readable(name: str) -> str:
    """A file name as text that any table can hold, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def zip_source(file: Path | BinaryIO, name: str, methods: Collection[int] | None = None) -> Source:
    """The files in a ZIP but for hidden ones, read one at a time and never unpacked to disk.

    Of several members of one name the last counts, as it does for whoever unpacks them. A ZIP in
    it is not opened.

    Args:
        file: where it is, or its content.
        name: stands as the bucket of its files.
        methods: of compression that are read, as `zipfile` numbers them; None for all.

    Raises:
        SourceError: the file is not a ZIP.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{name} cannot be read as a ZIP: {error}") from error
    members = {_readable(entry.filename): entry for entry in archive.infolist()}

    def read(item: SourceObject) -> bytes:
        member = members[item.key]
        if methods is not None and member.compress_type not in methods:
            raise Rejected(
                Reason.UNSUPPORTED_FORMAT,
                f"compressed by method {member.compress_type} in the ZIP; use deflate",
            )
        try:
            with archive.open(member) as content:
                # Not all that is there: it may be more than the ZIP says.
                data = content.read(member.file_size + 1)
        except Exception as error:  # each compression method raises errors of its own
            raise Rejected(Reason.TRUNCATED, f"damaged in the ZIP: {error}"[:200]) from error
        if data.startswith(_ZIP_MAGIC):
            raise Rejected(Reason.NOT_AN_IMAGE, "a ZIP inside the ZIP, which is not opened")
        return data

    objects = [
        SourceObject(name, key, "", entry.file_size, _zip_date(entry))
        for key, entry in members.items()
        if not (entry.is_dir() or _is_hidden(key.split("/")))
    ]
    return Source(objects, read, len(objects))


def _zip_date(entry: zipfile.ZipInfo) -> str:
    try:
        return datetime(*entry.date_time, tzinfo=UTC).isoformat()
    except ValueError:  # many programs write zeros
        return datetime(*_ZIP_EPOCH, tzinfo=UTC).isoformat()


def open_source(text: str) -> Source:
    """The source that a person named: s3://bucket/prefix, a folder, a ZIP or a file.

    Raises:
        SourceError: there is nothing at that place.
    """
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return bucket_source(bucket, prefix)
    path = Path(text)
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise SourceError(f"{text}: no such file or folder (a bucket is written s3://name/prefix)")
    if zipfile.is_zipfile(path):
        return zip_source(path, _readable(str(path)))
    return files_source([path])
