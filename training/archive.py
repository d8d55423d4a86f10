"""Stage `archive`: the trained network as a bundle and as a reproducible TorchServe archive."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import openvino
import torch
from model_archiver import ModelArchiver, ModelArchiverConfig
from torch import nn

from moodlake.model import META_FILE, NETWORK_FILES, digest_of
from moodlake.settings import PROJECT_ROOT
from training.architectures import preprocessing_of
from training.calibrate import Calibration
from training.evaluate import METRICS_FILE
from training.files import write_json, written_whole
from training.params import Params, load_params
from training.samples import Facts, read_facts
from training.train import WEIGHTS_FILE, load_network

ARCHIVE_FILE = Path("build/emotions.mar")
HANDLER_FILE = Path("handlers/emotion_handler.py")
WEIGHTS_MEMBER = "weights.safetensors"
_FIXED_TIME = (2026, 1, 1, 0, 0, 0)
_MANIFEST = "MAR-INF/MANIFEST.json"


def write_bundle(
    folder: Path,
    network: nn.Module,
    params: Params,
    facts: Facts,
    weights: Path,
    calibration: Calibration,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Write the bundle that moodlake.model reads; returns its meta data.

    Equal arguments make equal bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocessing = preprocessing_of(params.model)
    shape = (1, preprocessing.channels, preprocessing.size, preprocessing.size)
    scaled = nn.Sequential(network, _Scale(calibration)) if calibration.weight else network
    converted = openvino.convert_model(
        scaled.eval(), example_input=torch.zeros(shape), input=[-1, *shape[1:]]
    )
    _name_by_position(converted, params.archive.name)
    openvino.save_model(converted, folder / NETWORK_FILES[0], compress_to_fp16=False)
    shutil.copyfile(weights, folder / WEIGHTS_MEMBER)
    meta: dict[str, Any] = {
        "name": params.archive.name,
        "version": params.archive.version,
        "label_space": {"name": facts.space.name, "emotions": list(facts.space.emotions)},
        "preprocessing": preprocessing.to_dict(),
        "temperature": calibration.temperature,
        "faces": facts.faces,
        "files": {name: _sha256(folder / name) for name in NETWORK_FILES},
        "provenance": {
            "data_name": facts.name,
            "data_digest": facts.digest,
            "weights_sha256": _sha256(weights),
            "params": params.to_dict(),
            "metrics": metrics,
        },
    }
    meta["provenance"]["params"]["data"]["path"] = None  # where the file lay does not matter
    meta["digest"] = digest_of(meta)
    write_json(folder / META_FILE, meta)
    return meta


class _Scale(nn.Module):
    """Vector scaling as the network's last layer."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(calibration.weight))
        self.register_buffer("bias", torch.tensor(calibration.bias))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self.get_buffer("weight") + self.get_buffer("bias")


def _name_by_position(network: openvino.Model, name: str) -> None:
    """OpenVINO names nodes by a counter of the process; the file must not depend on it."""
    network.set_friendly_name(name)
    for index, node in enumerate(network.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{index}")


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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    network = load_network(params, len(facts.space))
    metrics = json.loads(METRICS_FILE.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary)
        meta = write_bundle(
            bundle, network, params, facts, WEIGHTS_FILE, Calibration.read(), metrics
        )
        write_archive(bundle, ARCHIVE_FILE, params, PROJECT_ROOT / HANDLER_FILE)
    size = ARCHIVE_FILE.stat().st_size / 1e6
    print(f"{ARCHIVE_FILE}: {size:.1f} MB, model digest {meta['digest'][:12]}")


if __name__ == "__main__":
    main()
