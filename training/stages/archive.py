"""Stage `archive`: the trained network as a bundle in a reproducible TorchServe archive."""

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

from moodlake.settings import PROJECT_ROOT
from training.architectures import preprocessing_of
from training.data_set.samples import Facts, load_split, read_facts
from training.evaluation.calibration import Calibration
from training.evaluation.metrics import Array
from training.files import write_json, written_whole
from training.learning.network import load_network
from training.packaging.bundle import Cost, check_bundle, cost_of, packed_network, write_bundle
from training.packaging.card import write_card
from training.packaging.quantize import CALIBRATION_IMAGES, quantized
from training.packaging.reference import add_reference
from training.params import Params, load_params
from training.paths import LOGITS_FILE, METRICS_FILE, WEIGHTS_FILE
from training.stage import stage

ARCHIVE_FILE = Path("build/emotions.mar")
HANDLER_FILE = Path("handlers/emotion_handler.py")
Judged = tuple[NDArray[np.uint8], Array, Array]
_FIXED_TIME = (2026, 1, 1, 0, 0, 0)
_MANIFEST = "MAR-INF/MANIFEST.json"


def write_archive(bundle: Path, archive: Path, params: Params, handler: Path) -> None:
    """Pack a bundle as a .mar whose bytes depend on its content only.

    torch-model-archiver lays out the folder; its time stamps are then fixed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        config = ModelArchiverConfig(
            model_name=params.archive.name,
            version=params.archive.version,
            handler=str(handler),
            extra_files=",".join(str(path) for path in sorted(bundle.iterdir())),
            export_path=temporary,
            archive_format="no-archive",
        )
        ModelArchiver.generate_model_archive(config)
        folder = Path(temporary) / params.archive.name
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        manifest["createdOn"] = "01/01/2026 00:00:00"
        write_json(folder / _MANIFEST, manifest)
        with written_whole(archive) as part:
            zip_canonically(folder, part)


def zip_canonically(folder: Path, target: Path) -> None:
    """Sorted members, one time stamp, one set of permissions."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIXED_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())


@dataclass(frozen=True)
class Packed:
    """The bundle that ships.

    Attributes:
        folder, meta, cost: where it is, what it says of itself, and what packing cost.
        int8: what 8 bits would cost, or do; None if they were not tried.
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
    judged: Judged,
    training_images: NDArray[np.uint8],
) -> Packed:
    """Write the bundle, in 8 bits if they are wanted and bearable.

    Args:
        folder: of the bundles.
        network, weights: the trained network, and the file that its weights are in.
        params, facts, calibration, metrics: see training.packaging.bundle.write_bundle.
        judged: what the bundle is measured on; see training.packaging.bundle.cost_of.
        training_images: (N, channels, size, size), to quantise by.

    Raises:
        BundleDiffers: even without 8 bits it predicts worse than its network.
    """
    converted = packed_network(network, params, calibration)
    about = (params, facts, weights, calibration, metrics)
    meta = write_bundle(folder / "floats", converted, *about)
    floats = Packed(folder / "floats", meta, check_bundle(folder / "floats", *judged), None)
    if not params.archive.int8:
        return floats
    drawn = np.random.default_rng(params.data.seed).permutation(len(training_images))
    images = training_images[np.sort(drawn[:CALIBRATION_IMAGES])]
    eight = quantized(converted, preprocessing_of(params.model).normalise(images))
    meta = write_bundle(folder / "int8", eight, *about, int8=True)
    cost = cost_of(folder / "int8", *judged)
    return (
        Packed(folder / "int8", meta, cost, cost) if cost.bearable else replace(floats, int8=cost)
    )


@stage("archive")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    network = load_network(params, len(facts.space))
    calibration = Calibration.read()
    metrics = json.loads(METRICS_FILE.read_text("utf-8"))
    preprocessing = preprocessing_of(params.model)
    judged = (*load_split("valid", preprocessing), calibration(np.load(LOGITS_FILE)))
    images = load_split("train", preprocessing)[0]
    with tempfile.TemporaryDirectory() as temporary:
        about = (params, facts, calibration, metrics)
        packed = pack(Path(temporary), network, WEIGHTS_FILE, *about, judged, images)
        add_reference(packed.folder)
        write_archive(packed.folder, ARCHIVE_FILE, params, PROJECT_ROOT / HANDLER_FILE)
    write_card(packed.meta, ARCHIVE_FILE, packed.cost, packed.int8)
    size = ARCHIVE_FILE.stat().st_size / 1e6
    print(f"{ARCHIVE_FILE}: {size:.1f} MB, model digest {packed.meta['digest'][:12]}")
    print(f"as packed, with the calibration that ships: {packed.cost}")
    if tried := packed.int8:
        print(f"int8: {tried}: {'taken' if tried.bearable else 'not taken, it loses too much'}")


if __name__ == "__main__":
    main()
