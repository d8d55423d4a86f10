"""A tiny but complete bundle, for tests that need a model but not its accuracy."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from moodlake.emotions import label_space
from moodlake.inference.bundle import digest_of, read_meta
from moodlake.inference.faces import DETECTOR
from moodlake.inference.model import Model
from moodlake.settings import PROJECT_ROOT

SIZE = 16


def write_bundle(
    folder: Path,
    *,
    space_name: str = "ferplus",
    faces: str = "none",
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
    version: str = "1.0",
    explainable: bool = True,
) -> Path:
    """Write a bundle: one random layer over the bright and dark parts of 16 x 16 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    space = label_space(space_name)
    pixels = ops.parameter([-1, 1, SIZE, SIZE], np.float32, name="pixels")
    weights = np.random.default_rng(seed).normal(0, 0.05, (2 * SIZE * SIZE, len(space)))
    kernel = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)
    maps = ops.relu(ops.convolution(pixels, kernel, [1, 1], [0, 0], [0, 0], [1, 1]))
    flat = ops.reshape(maps, ops.constant(np.array([-1, 2 * SIZE * SIZE])), special_zero=False)
    logits = ops.matmul(flat, ops.constant(weights.astype(np.float32)), False, False)
    network = openvino.Model([logits, maps] if explainable else [logits], [pixels])
    openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
    meta: dict[str, Any] = {
        "name": "emotions",
        "version": version,
        "label_space": {"name": space.name, "emotions": list(space.emotions)},
        "preprocessing": {"size": SIZE, "channels": 1, "mean": 0.5, "std": 0.25},
        "temperature": 1.0,
        "faces": faces,
        "detector": dict(DETECTOR),
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.xml", "model.bin")
        },
        "provenance": provenance or {"data_name": "random weights"},
    }
    meta["digest"] = digest_of(meta)
    (folder / "model.json").write_text(json.dumps(meta), "utf-8")
    meta["probe"] = Model.load(folder).probe().to_dict()
    (folder / "model.json").write_text(json.dumps(meta), "utf-8")
    return folder


def write_archive(path: Path, **options: Any) -> Path:
    """Write the tiny bundle as a TorchServe archive with the real handler."""
    folder = write_bundle(path.parent / f"{path.stem}-bundle", **options)
    version = read_meta(folder)["version"]
    manifest = {
        "createdOn": "01/01/2026 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": "emotions",
            "handler": "entry_point.py",
            "modelVersion": version,
        },
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.write(PROJECT_ROOT / "handlers" / "entry_point.py", "entry_point.py")
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path
