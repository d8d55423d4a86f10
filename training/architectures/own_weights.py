"""Weights of an earlier training here, to start the next one from."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from training.architectures.base import WeightsError

MEMBER = "weights.safetensors"
"""Name of the weights in a model archive."""


def start_from(network: nn.Module, head: nn.Module, file: Path) -> None:
    """Load weights of the same architecture; a head for other emotions is left as it is.

    Args:
        network: the network that takes them.
        head: its last stage.
        file: a weights.safetensors, or a .mar that holds one.

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
    network.load_state_dict({**own, **{name: given[name] for name in own.keys() - differing}})


def digest_of(file: Path) -> str:
    """SHA-256 of the file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from error


def _is_in(value: Tensor, head: nn.Module) -> bool:
    return any(value.data_ptr() == other.data_ptr() for other in head.state_dict().values())


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix != ".mar":
            return safetensors.torch.load_file(file)
        with zipfile.ZipFile(file) as archive:
            return safetensors.torch.load(archive.read(MEMBER))
    except FileNotFoundError as error:
        raise WeightsError(f"model.weights: there is no file {file}") from error
    except (OSError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise WeightsError(f"model.weights: {file} holds no weights ({error})") from error
