"""Weights of an earlier training here, to start the next one from."""

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

MEMBER = "weights.safetensors"
"""Name of the weights in a model archive."""
_NOTE = "made"


@dataclass(frozen=True)
class Made:
    """What a file says of the training that made it; empty where it says nothing.

    Attributes:
        emotions: of the head.
        data: the data set's name and digest.
        sources: SHA-256 of each file that training started or learned from, by its path.
    """

    emotions: tuple[str, ...] = ()
    data: tuple[str, str] = ("", "")
    sources: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors file; one entry, for it writes several in no fixed order."""
        return {_NOTE: json.dumps(asdict(self), sort_keys=True)}


def made_from(file: Path) -> Made:
    """What a weights.safetensors or a model archive says of its making.

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
    except (KeyError, TypeError, ValueError):  # it was made elsewhere
        return Made()


def start_from(
    network: nn.Module, head: nn.Module, file: Path, emotions: tuple[str, ...] | None
) -> None:
    """Load weights of the same architecture; a head for other emotions is left as it is.

    Args:
        network: the network that takes them.
        head: its last stage.
        file: a weights.safetensors, or a .mar that holds one.
        emotions: of the network; None where only their number counts.

    Raises:
        WeightsError: the file cannot be read, or is of another architecture.
    """
    given, own = _read(file), network.state_dict()
    if given.keys() != own.keys():
        raise WeightsError(f"model.weights: {file} holds the weights of another architecture")
    differing = {name for name in own if given[name].shape != own[name].shape}
    of_head = {name for name, value in own.items() if _is_in(value, head)}
    if not differing <= of_head:
        raise WeightsError(
            f"model.weights: {file} is of a network of another size or other channels: "
            f"{', '.join(sorted(differing - of_head)[:3])} differ"
        )
    known = made_from(file).emotions
    left = of_head if emotions and known and emotions != known else differing
    network.load_state_dict({**own, **{name: given[name] for name in own.keys() - left}})


def digest_of(file: Path) -> str:
    """SHA-256 of the file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{file}, which model.weights or train.teachers names, cannot be read: {error.strerror}"
        ) from error


def _is_in(value: Tensor, head: nn.Module) -> bool:
    return any(value.data_ptr() == other.data_ptr() for other in head.state_dict().values())


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix != ".mar":
            return safetensors.torch.load_file(file)
        with zipfile.ZipFile(file) as archive:
            return safetensors.torch.load(archive.read(MEMBER))
    except (OSError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise WeightsError(f"model.weights: {file} holds no weights ({error})") from error
