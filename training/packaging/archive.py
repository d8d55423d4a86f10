"""Pack a trained network as a TorchServe archive (.mar) whose bytes depend on its content only."""

from __future__ import annotations

import json
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from model_archiver import ModelArchiver, ModelArchiverConfig
from numpy.typing import NDArray
from torch import nn

from training.architectures import preprocessing_of
from training.data_set.facts import Facts
from training.evaluation.calibration import Calibration
from training.files import write_json, written_whole
from training.metrics import Array
from training.packaging.bundle import Cost, check_bundle, cost_of, packed_network, write_bundle
from training.packaging.quantize import CALIBRATION_IMAGES, quantized
from training.params import ArchiveParams, Params
from training.paths import HANDLER_FILE

Validation = tuple[NDArray[np.uint8], Array, Array]
"""Images (N, C, s, s), the votes' distributions (N, E) and the network's predictions (N, E)."""
_FIXED_TIME = (2026, 1, 1, 0, 0, 0)
_MANIFEST = "MAR-INF/MANIFEST.json"


def write_archive(bundle: Path, archive: Path, params: ArchiveParams) -> None:
    """Pack a bundle folder as a .mar; equal bundles make equal bytes.

    torch-model-archiver lays out the files. Their time stamps are then fixed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        config = ModelArchiverConfig(
            model_name=params.name,
            version=params.version,
            handler=str(HANDLER_FILE),
            extra_files=",".join(str(path) for path in sorted(bundle.iterdir())),
            export_path=temporary,
            archive_format="no-archive",
        )
        ModelArchiver.generate_model_archive(config)
        folder = Path(temporary) / params.name
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        manifest["createdOn"] = "01/01/2026 00:00:00"
        write_json(folder / _MANIFEST, manifest)
        with written_whole(archive) as part:
            zip_canonically(folder, part)


def zip_canonically(folder: Path, target: Path) -> None:
    """Zip a folder with sorted members, one time stamp and one set of permissions."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIXED_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())


@dataclass(frozen=True)
class Packed:
    """The bundle to release.

    Attributes:
        folder: of the bundle.
        meta: content of its model.json.
        cost: accuracy and KL lost by packing.
        int8: the same of the 8-bit bundle, whether released or not; None if there was none.
    """

    folder: Path
    meta: dict[str, Any]
    cost: Cost
    int8: Cost | None


def pack(
    folder: Path,
    network: nn.Module,
    weights: Path,
    params: Params,
    facts: Facts,
    calibration: Calibration,
    metrics: dict[str, Any],
    validation: Validation,
    training_images: NDArray[np.uint8],
) -> Packed:
    """Write the bundle, in 8 bits if `params` asks for them and they cost little enough.

    Args:
        folder: of the bundles.
        network, weights: the trained network, and the file of its weights.
        params, facts, calibration, metrics: see training.packaging.bundle.write_bundle.
        validation: the rows that the bundle is measured on.
        training_images: (N, channels, size, size), for the ranges of quantised activations.

    Raises:
        BundleDiffers: even without 8 bits the bundle predicts worse than its network.
    """
    converted = packed_network(network, params, calibration)
    about = (params, facts, weights, calibration, metrics)
    meta = write_bundle(folder / "floats", converted, *about)
    floats = Packed(folder / "floats", meta, check_bundle(folder / "floats", *validation), None)
    if not params.archive.int8:
        return floats
    drawn = np.random.default_rng(params.data.seed).permutation(len(training_images))
    images = training_images[np.sort(drawn[:CALIBRATION_IMAGES])]
    eight = quantized(converted, preprocessing_of(params.model).normalise(images))
    meta = write_bundle(folder / "int8", eight, *about, int8=True)
    cost = cost_of(folder / "int8", *validation)
    return (
        Packed(folder / "int8", meta, cost, cost) if cost.bearable else replace(floats, int8=cost)
    )
