"""The files of a model: a folder, or the same files in a TorchServe archive (.mar).

model.json            metadata: labels, preprocessing, calibration, provenance, digest
model.xml, model.bin  the network as OpenVINO IR: (N, channels, size, size) -> logits (N, E),
                      and for heat maps, if available, feature maps (N, C, h, w)
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from moodlake.errors import UserError
from moodlake.inference.faces import DETECTOR

META_FILE = "model.json"
NETWORK_FILES = ("model.xml", "model.bin")
_DIGESTED = ("label_space", "preprocessing", "temperature", "faces", "files", "detector")


class BundleError(UserError):
    """A bundle cannot be used; the message names the file and the reason."""


def digest_of(meta: dict[str, Any]) -> str:
    """Return the SHA-256 over all that decides a prediction: labels, network, detector, ...

    Args:
        meta: the content of model.json; its `files` maps the network's files to their SHA-256.
    """
    digested = {name: meta[name] for name in _DIGESTED if name in meta}
    canonical = json.dumps(digested, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_meta(path: Path | str) -> dict[str, Any]:
    """Read model.json of a bundle folder or .mar, without its network; see `read_bundle`."""
    return _with_detector(json.loads(_read(Path(path), (META_FILE,))[META_FILE]))


def read_bundle(path: Path | str) -> tuple[dict[str, Any], list[bytes]]:
    """Read model.json and the NETWORK_FILES of a bundle folder or .mar.

    The returned `detector` and `digest` are those of the installed detector: with another detector
    than it was packed with, an archive finds other faces and so counts as another model.

    Raises:
        BundleError: a file is absent, unreadable, or not the one its digest names.
    """
    files = _read(Path(path), (META_FILE, *NETWORK_FILES))
    try:
        meta: dict[str, Any] = json.loads(files[META_FILE])
        for name in NETWORK_FILES:
            if hashlib.sha256(files[name]).hexdigest() != meta["files"][name]:
                raise BundleError(f"{path}: the digest of {name} differs from that in {META_FILE}")
        if digest_of(meta) != meta["digest"]:
            raise BundleError(f"{path}: {META_FILE} does not match its digest")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: {META_FILE} does not describe a model: {error!r}") from error
    return _with_detector(meta), [files[name] for name in NETWORK_FILES]


def _with_detector(meta: dict[str, Any]) -> dict[str, Any]:
    current = meta | {"detector": dict(DETECTOR)}
    return current | {"digest": digest_of(current)}


def _read(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    try:
        if path.is_dir():
            return {name: (path / name).read_bytes() for name in names}
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in names}
    except FileNotFoundError as error:
        raise BundleError(f"{error.filename} does not exist; check the path") from error
    except zipfile.BadZipFile as error:
        raise BundleError(f"{path} is not a model archive (.mar): it is not a ZIP file") from error
    except (OSError, KeyError) as error:
        raise BundleError(f"{path} is not a model archive (.mar): {error}") from error
