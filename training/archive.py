"""Stage `archive`: the trained network as a bundle in a reproducible TorchServe archive."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from model_archiver import ModelArchiver, ModelArchiverConfig

from moodlake.settings import PROJECT_ROOT
from training.architectures import preprocessing_of
from training.bundle import check_bundle, write_bundle
from training.calibrate import LOGITS_FILE, Calibration
from training.card import write_card
from training.evaluate import METRICS_FILE
from training.files import write_json, written_whole
from training.params import Params, load_params
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
    images, target = load_split("valid", preprocessing_of(params.model))
    expected = calibration(np.load(LOGITS_FILE))
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary)
        meta = write_bundle(bundle, network, params, facts, WEIGHTS_FILE, calibration, metrics)
        cost = check_bundle(bundle, images, target, expected)
        write_archive(bundle, ARCHIVE_FILE, params, PROJECT_ROOT / HANDLER_FILE)
    write_card(meta, ARCHIVE_FILE, cost)
    size = ARCHIVE_FILE.stat().st_size / 1e6
    print(f"{ARCHIVE_FILE}: {size:.1f} MB, model digest {meta['digest'][:12]}")
    print(
        f"as packed ({params.archive.precision}), with the calibration that ships: accuracy "
        f"{cost['accuracy']:.4f} ({0 - cost['accuracy_lost']:+.4f}), KL {cost['kl']:.4f} "
        f"({cost['kl_gained']:+.4f})"
    )


if __name__ == "__main__":
    main()
