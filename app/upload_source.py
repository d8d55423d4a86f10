"""Uploaded files as sources of images to score."""

from __future__ import annotations

import io
import shlex
import zipfile
from datetime import UTC, datetime

from moodlake.errors import UserError
from moodlake.scoring.sources.local import zip_source
from moodlake.scoring.sources.objects import Source, SourceObject

MAX_FILES = 1000
"""Limit on the files in a ZIP."""
MAX_UPLOAD_MB = 100
"""Limit on one uploaded file or ZIP."""
MAX_UNPACKED_MB = 1000
"""Limit on the unpacked size of a ZIP."""
MAX_SESSION_MB = 500
"""Limit on all uploads of one session."""
UPLOAD_BUCKET = "upload"
"""Value of the column `bucket` for single files."""
_MAX_ENTRIES = 100_000
"""Limit on the directory entries of a ZIP. The directory is read whole, at about 700 bytes of
memory per entry."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that can be unpacked in parts."""
_ENTRY = b"PK\x01\x02"  # signature of a directory entry (APPNOTE 4.3.12)


class UploadError(UserError):
    """The web app does not accept an upload; the message gives the reason and an alternative."""


def open_upload(name: str, data: bytes) -> Source:
    """Return an uploaded file as a source of one image, or a ZIP as a source of its files.

    A ZIP is not unpacked: its files are read one at a time.

    Args:
        name: the file name that the browser sent.
        data: the content.

    Raises:
        SourceError: the ZIP is damaged.
        UploadError: the ZIP is empty or too large.
    """
    if not (name.lower().endswith(".zip") or data.startswith(b"PK")):
        now = datetime.now(UTC).isoformat()
        return Source([SourceObject(UPLOAD_BUCKET, name, "", len(data), now)], lambda item: data, 1)
    if (entries := data.count(_ENTRY)) > _MAX_ENTRIES:
        raise UploadError(_too_large(name, f"about {entries:,} files"))
    source = zip_source(io.BytesIO(data), name, _METHODS)
    objects = list(source.objects)
    if not objects:
        raise UploadError(f"{name} contains no files")
    if len(objects) > MAX_FILES:
        raise UploadError(_too_large(name, f"{len(objects):,} files"))
    if (unpacked := sum(item.size for item in objects)) > MAX_UNPACKED_MB * 1_000_000:
        raise UploadError(_too_large(name, f"{unpacked / 1e6:,.0f} MB unpacked"))
    return Source(objects, source.read, len(objects))


def _too_large(name: str, found: str) -> str:
    return (
        f"{name} contains {found}; the web app accepts {MAX_FILES:,} files and "
        f"{MAX_UNPACKED_MB:,} MB unpacked. To score all of it, run "
        f"`moodlake score {shlex.quote(name)} --out results.csv`"
    )
