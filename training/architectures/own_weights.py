"""Weights of an earlier training in this project, as the start of the next one."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from moodlake.inference.bundle import BundleError, read_meta
from training.architectures.base import WeightsError
from training.files import sha256

STORED = "stored_weights_sha256"
"""Key in an archive's provenance: the SHA-256 of the .safetensors file beside it."""
_MEMBER = "weights.safetensors"
"""Name of the weights in archives of version 3.2 and before."""
_NOTE = "made"


@dataclass(frozen=True)
class Made:
    """The training that made a file; empty where the file does not record it.

    Attributes:
        emotions: of the head.
        data: name and digest of the data set.
        sources: SHA-256 of each file that training started or learned from, by its path.
    """

    emotions: tuple[str, ...] = ()
    data: tuple[str, str] = ("", "")
    sources: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Return metadata for a safetensors file: one entry, as the order of several varies."""
        return {_NOTE: json.dumps(asdict(self), sort_keys=True)}


def made_from(file: Path) -> Made:
    """Read how a .safetensors file or a model archive was made.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            with safetensors.safe_open(file, "pt") as opened:
                note = json.loads(opened.metadata()[_NOTE])
            return Made(tuple(note["emotions"]), tuple(note["data"]), note["sources"])
        meta = read_meta(file)
        provenance = meta["provenance"]
        return Made(
            tuple(meta["label_space"]["emotions"]),
            (provenance["data_name"], provenance["data_digest"]),
            provenance.get("sources", {}),
        )
    except (BundleError, OSError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError):  # made by another program
        return Made()


def start_from(
    network: nn.Module, head: nn.Module, file: Path, emotions: tuple[str, ...] | None
) -> None:
    """Load weights of the same architecture, except a head for other emotions.

    Args:
        network: the network to load them into.
        head: its last stage.
        file: a .safetensors, or a .mar with its weights beside or inside it.
        emotions: of the network; None if only their number matters.

    Raises:
        WeightsError: the file cannot be read, or is of another architecture.
    """
    earlier, own = _read(file), network.state_dict()
    if earlier.keys() != own.keys():
        raise WeightsError(f"model.weights: {file} is of another architecture")
    differing = {name for name in own if earlier[name].shape != own[name].shape}
    of_head = {name for name, value in own.items() if _is_in(value, head)}
    if not differing <= of_head:
        raise WeightsError(
            f"model.weights: {file} is of a network with another size or other channels: "
            f"{', '.join(sorted(differing - of_head)[:3])} differ"
        )
    known = made_from(file).emotions
    skipped = of_head if emotions and known and emotions != known else differing
    network.load_state_dict({**own, **{name: earlier[name] for name in own.keys() - skipped}})


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file that params.yaml names.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        return sha256(file)
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read ({error.strerror}); check model.weights and train.teachers"
        ) from error


def _is_in(value: Tensor, head: nn.Module) -> bool:
    return any(value.data_ptr() == other.data_ptr() for other in head.state_dict().values())


def _read(file: Path) -> dict[str, Tensor]:
    """Read the weights of a .safetensors, or those inside or beside a .mar."""
    try:
        if file.suffix != ".mar":
            return safetensors.torch.load_file(file)
        with zipfile.ZipFile(file) as archive:
            if _MEMBER in archive.namelist():
                return safetensors.torch.load(archive.read(_MEMBER))
    except (OSError, zipfile.BadZipFile, SafetensorError) as error:
        raise WeightsError(f"model.weights: {file} holds no weights ({error})") from error
    return safetensors.torch.load(_read_beside(file))


def _read_beside(archive: Path) -> bytes:
    file = archive.with_suffix(".safetensors")
    try:
        content = file.read_bytes()
        expected = read_meta(archive)["provenance"].get(STORED)
    except FileNotFoundError as error:
        raise WeightsError(
            f"model.weights: {archive} is served without its weights, and {file} does not exist; "
            "copy both files of a release, or name a .safetensors"
        ) from error
    except (BundleError, KeyError, OSError) as error:
        raise WeightsError(f"model.weights: {file} cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise WeightsError(
            f"model.weights: {file} is not of the same release as {archive}; copy both files of "
            "one release"
        )
    return content
