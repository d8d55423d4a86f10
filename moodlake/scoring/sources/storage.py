"""Small files in a folder or under an s3:// prefix, written and read as a whole."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from pyarrow import fs

from moodlake.scoring.sources.objects import SourceError


def join(uri: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def _locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI or local path, and the path in it."""
    if "://" in uri:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return filesystem, path
    return fs.LocalFileSystem(), uri


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file atomically: readers see all of it or nothing.

    Raises:
        SourceError: the file cannot be written.
    """
    filesystem, path = _locate(uri)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            if folder := path.rpartition("/")[0]:
                filesystem.create_dir(folder, recursive=True)
            part = f"{path}.{uuid.uuid4().hex}.part"  # another process may be writing the same file
            with filesystem.open_output_stream(part) as stream:
                stream.write(data)
            filesystem.move(part, path)
            return
        # An S3 object appears when its upload is complete.
        kind, _ = mimetypes.guess_type(path)  # so that a browser shows HTML
        metadata = {"Content-Type": kind} if kind else None
        with filesystem.open_output_stream(path, metadata=metadata) as stream:
            stream.write(data)
    except OSError as error:
        raise SourceError(f"cannot write {uri}: {error}") from error


def read_bytes(uri: str) -> bytes | None:
    """Return the content of a file; None if it does not exist.

    Raises:
        SourceError: the file cannot be read.
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
    """A file and the time of its last change."""

    uri: str
    modified: datetime


def list_files(uri: str) -> list[StoredFile]:
    """List all files under a folder or prefix, at any depth; empty if it does not exist.

    Raises:
        SourceError: the folder or prefix cannot be listed.
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
    """Delete a file, if it exists.

    Raises:
        SourceError: the file cannot be deleted.
    """
    _remove(uri, lambda filesystem, path: filesystem.delete_file(path))


def delete_folder(uri: str) -> None:
    """Delete a folder with its content; raises as `delete`."""
    _remove(uri, lambda filesystem, path: filesystem.delete_dir(path))


def _remove(uri: str, remove: Callable[[fs.FileSystem, str], None]) -> None:
    filesystem, path = _locate(uri)
    try:
        if filesystem.get_file_info(path).type != fs.FileType.NotFound:
            remove(filesystem, path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceError(f"cannot delete {uri}: {error}") from error
