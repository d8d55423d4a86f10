"""Sources named on the command line: buckets, folders, ZIPs and files."""

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
    """Return a source of all files under `folder`, except hidden ones, in name order."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path.relative_to(folder).parts)
    )
    return files_source(paths, folder)


def files_source(paths: list[Path], folder: Path | None = None) -> Source:
    """Return a source of local files, with keys relative to `folder` or else file names."""
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
    """Return a file name as valid text, with undecodable bytes escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def zip_source(file: Path | BinaryIO, name: str, methods: Collection[int] | None = None) -> Source:
    """Return a source of the files in a ZIP, except hidden ones; nothing is unpacked to disk.

    Of several members with the same name the last counts, as when unpacking. Nested ZIPs are not
    opened.

    Args:
        file: path or content of the ZIP.
        name: bucket name for its files.
        methods: permitted compression methods, as numbered by `zipfile`; None for all.

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
                f"compressed with method {member.compress_type} in the ZIP; use deflate",
            )
        try:
            with archive.open(member) as content:
                # Bounded: the data may be larger than the ZIP declares.
                data = content.read(member.file_size + 1)
        except Exception as error:  # each compression method raises other errors
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
    """Open a source by name: s3://bucket/prefix, a folder, a ZIP or a file.

    Raises:
        SourceError: there is no such source.
    """
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return bucket_source(bucket, prefix)
    path = Path(text)
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise SourceError(f"{text}: no such file or folder (for a bucket, use s3://bucket/prefix)")
    if zipfile.is_zipfile(path):
        return zip_source(path, _readable(str(path)))
    return files_source([path])
