"""Stage `archive`: the trained network as a bundle in a reproducible TorchServe archive."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from model_archiver import ModelArchiver, ModelArchiverConfig
from numpy.typing import NDArray

from moodlake.settings import PROJECT_ROOT
from training.architectures import preprocessing_of
from training.bundle import check_bundle, cost_of, packed_network, write_bundle
from training.calibrate import LOGITS_FILE, Calibration
from training.card import write_card
from training.evaluate import METRICS_FILE
from training.files import write_json, written_whole
from training.params import Params, load_params
from training.quantize import CALIBRATION_IMAGES, quantized
from training.samples import load_split, read_facts
from training.stage import stage
from training.train import WEIGHTS_FILE, load_network

ARCHIVE_FILE = Path("build/emotions.mar")
HANDLER_FILE = Path("handlers/emotion_handler.py")
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
            _zip_canonically(folder, part)


def _zip_canonically(folder: Path, target: Path) -> None:
    """Sorted members, one time stamp, one set of permissions."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIXED_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())


@stage("archive")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    network = load_network(params, len(facts.space))
    calibration = Calibration.read()
    metrics = json.loads(METRICS_FILE.read_text("utf-8"))
    preprocessing = preprocessing_of(params.model)
    judged = (*load_split("valid", preprocessing), calibration(np.load(LOGITS_FILE)))
    converted = packed_network(network, params, calibration)
    about = (params, facts, WEIGHTS_FILE, calibration, metrics)
    with tempfile.TemporaryDirectory() as temporary:
        bundle, smaller = Path(temporary) / "bundle", Path(temporary) / "int8"
        meta = write_bundle(bundle, converted, *about)
        cost = check_bundle(bundle, *judged)
        tried = None
        if params.archive.int8:
            inputs = _calibrating(load_split("train", preprocessing)[0], params.data.seed)
            eight = quantized(converted, preprocessing.normalise(inputs))
            of_smaller = write_bundle(smaller, eight, *about, int8=True)
            tried = cost_of(smaller, *judged)
            if tried.bearable:
                bundle, meta, cost = smaller, of_smaller, tried
        write_archive(bundle, ARCHIVE_FILE, params, PROJECT_ROOT / HANDLER_FILE)
    write_card(meta, ARCHIVE_FILE, cost, tried)
    size = ARCHIVE_FILE.stat().st_size / 1e6
    print(f"{ARCHIVE_FILE}: {size:.1f} MB, model digest {meta['digest'][:12]}")
    print(f"as packed, with the calibration that ships: {cost}")
    if tried:
        print(f"int8: {tried}: {'taken' if tried.bearable else 'not taken, it loses too much'}")


def _calibrating(images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """So many of the training images as quantisation wants."""
    count = min(CALIBRATION_IMAGES, len(images))
    return images[np.random.default_rng(seed).choice(len(images), count, replace=False)]


if __name__ == "__main__":
    main()
