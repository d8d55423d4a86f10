"""Small whole files in a folder or under an s3:// prefix: plans and staged shards."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from pyarrow import fs

from moodlake.scoring.sources.objects import SourceError


def join(uri: str, *parts: str) -> str:
    """`uri` with path parts added."""
    return "/".join([uri.rstrip("/"), *parts])


def _locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI or local path."""
    if "://" in uri:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return filesystem, path
    return fs.LocalFileSystem(), uri


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole file: readers see all of it or nothing.

    Raises:
        SourceError: the place cannot be written.
    """
    filesystem, path = _locate(uri)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            if folder := path.rpartition("/")[0]:
                filesystem.create_dir(folder, recursive=True)
            part = f"{path}.{uuid.uuid4().hex}.part"  # others may write the same file now
            with filesystem.open_output_stream(part) as stream:
                stream.write(data)
            filesystem.move(part, path)
            return
        # An S3 object appears when its upload is completed, whole.
        kind, _ = mimetypes.guess_type(path)  # by which a browser knows a page
        metadata = {"Content-Type": kind} if kind else None
        with filesystem.open_output_stream(path, metadata=metadata) as stream:
            stream.write(data)
    except OSError as error:
        raise SourceError(f"cannot write {uri}: {error}") from error


def read_bytes(uri: str) -> bytes | None:
    """The file's content, or None if there is no such file.

    Raises:
        SourceError: the place cannot be read.
    """
    filesystem, path = _locate(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot read {uri}: {error}") from error


class StoredFile(NamedTuple):
    """A file and when it was last written."""

    uri: str
    modified: datetime


def list_files(uri: str) -> list[StoredFile]:
    """All files under a folder or prefix, at any depth; none if there is no such place.

    Raises:
        SourceError: the place cannot be listed.
    """
    filesystem, path = _locate(uri)
    try:
        found = filesystem.get_file_info(
            fs.FileSelector(path, allow_not_found=True, recursive=True)
        )
    except OSError as error:
        raise SourceError(f"cannot list {uri}: {error}") from error
    return [
        StoredFile(join(uri, info.path.removeprefix(path).lstrip("/")), info.mtime)
        for info in found
        if info.is_file
    ]


def delete(uri: str) -> None:
    """Remove a file; one that is absent is no error.

    Raises:
        SourceError: it cannot be removed.
    """
    _remove(uri, lambda filesystem, path: filesystem.delete_file(path))


def delete_folder(uri: str) -> None:
    """Remove a folder and all in it; raises as `delete`."""
    _remove(uri, lambda filesystem, path: filesystem.delete_dir(path))


def _remove(uri: str, remove: Callable[[fs.FileSystem, str], None]) -> None:
    filesystem, path = _locate(uri)
    try:
        if filesystem.get_file_info(path).type != fs.FileType.NotFound:
            remove(filesystem, path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceError(f"cannot remove {uri}: {error}") from error
