"""A ResNet-50 at 224 x 224 pixels with random weights, as a model of common size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from moodlake.settings import PROJECT_ROOT
from training.architectures import build
from training.data_set.facts import Facts
from training.evaluation.calibration import Calibration
from training.packaging.archive import write_archive
from training.packaging.bundle import packed_network, write_bundle
from training.params import load_params


def resnet50_archive(folder: Path) -> Path:
    """Write the archive to an empty folder; its predictions are meaningless."""
    params = load_params(PROJECT_ROOT / "params.yaml")
    model = replace(params.model, architecture="resnet50", size=224, channels=3, weights="none")
    params = replace(params, model=model)
    facts = Facts("nothing", label_space("ferplus"), FaceMode.LARGEST, "nothing")
    torch.manual_seed(0)
    network = build(params.model, len(facts.space)).eval()
    weights, bundle = folder / "weights.safetensors", folder / "bundle"
    safetensors.torch.save_file(network.state_dict(), weights)
    converted = packed_network(network, params, Calibration())
    write_bundle(bundle, converted, params, facts, weights, Calibration(), {})
    archive = folder / "resnet50.mar"
    write_archive(bundle, archive, params.archive)
    return archive
