"""What a person laid on the page, as sources to score."""

from __future__ import annotations

import io
import shlex
import zipfile
from datetime import UTC, datetime

from moodlake.errors import UserError
from moodlake.scoring.sources.local import zip_source
from moodlake.scoring.sources.objects import Source, SourceObject

MAX_FILES = 1000
MAX_UPLOAD_MB = 100
"""Of one file or ZIP."""
MAX_UNPACKED_MB = 1000
"""Of all that a ZIP holds."""
MAX_HELD_MB = 500
"""Of all that one person has laid on the page."""
_MAX_ENTRIES = 100_000
"""Of a ZIP's directory, which is read as a whole; some 700 bytes of memory for each."""
UPLOADED = "upload"
"""Stands as the bucket of single files."""


# Others cannot be unpacked a part at a time.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY = b"PK\x01\x02"  # begins each entry of a ZIP's directory (APPNOTE 4.3.12)


class UploadError(UserError):
    """A file that the page does not take; the message says why, and what to do."""


def source_of(name: str, data: bytes) -> Source:
    """What one uploaded file holds: itself, or the files of a ZIP, which is not unpacked.

    Args:
        name: as the browser tells it.
        data: its content.

    Raises:
        SourceError: a broken ZIP.
        UploadError: a ZIP that is empty or too large.
    """
    if not (name.lower().endswith(".zip") or data.startswith(b"PK")):
        now = datetime.now(UTC).isoformat()
        return Source([SourceObject(UPLOADED, name, "", len(data), now)], lambda item: data, 1)
    if (entries := data.count(_ENTRY)) > _MAX_ENTRIES:
        raise UploadError(f"{name} holds some {entries:,} files; {_elsewhere(name)}")
    source = zip_source(io.BytesIO(data), name, _METHODS)
    objects = list(source.objects)
    if not objects:
        raise UploadError(f"{name} holds no files")
    if len(objects) > MAX_FILES:
        raise UploadError(f"{name} holds {len(objects):,} files; {_elsewhere(name)}")
    if (unpacked := sum(item.size for item in objects)) > MAX_UNPACKED_MB * 1_000_000:
        raise UploadError(f"{name} unpacks to {unpacked / 1e6:,.0f} MB; {_elsewhere(name)}")
    return Source(objects, source.read, len(objects))


def _elsewhere(name: str) -> str:
    return (
        f"the page takes {MAX_FILES:,} files and {MAX_UNPACKED_MB:,} MB at a time: "
        f"`moodlake score {shlex.quote(name)} --out results.csv` takes all of it"
    )
