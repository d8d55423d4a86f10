"""Stage `evaluate`: the trained network on the validation split, beside constant predictors."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import safetensors.torch
from torch import nn

from moodlake.emotions import LabelSpace
from training.architectures import build, preprocessing_of
from training.files import write_json, written_whole
from training.metrics import Array, summarise
from training.params import Params, load_params
from training.samples import load_split, read_facts
from training.train import WEIGHTS_FILE, predict

METRICS_FILE = Path("metrics/metrics.json")
CONFUSION_FILE = Path("metrics/confusion.csv")


def load_network(params: Params, classes: int, weights: Path = WEIGHTS_FILE) -> nn.Module:
    """The trained network, ready to predict."""
    network = build(params.model, classes, pretrained=False)
    network.load_state_dict(safetensors.torch.load_file(weights))
    return network.eval()


def write_confusion(path: Path, target: Array, predicted: Array, space: LabelSpace) -> None:
    """One line a validation image: the majority emotion and the predicted one."""
    with written_whole(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        for actual, guess in zip(target.argmax(axis=1), predicted.argmax(axis=1), strict=True):
            writer.writerow([space.emotions[actual], space.emotions[guess]])


def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    preprocessing = preprocessing_of(params.model)
    _, train_target = load_split("train", preprocessing)
    images, target = load_split("valid", preprocessing)
    predicted = predict(load_network(params, len(facts.space)), images, preprocessing)
    prior = np.tile(train_target.mean(axis=0), (len(target), 1))
    uniform = np.full_like(target, 1 / len(facts.space))
    metrics = summarise(target, predicted, facts.space)
    baselines = {
        "constant_prior": summarise(target, prior, facts.space),
        "uniform": summarise(target, uniform, facts.space),
    }
    for baseline in baselines.values():
        del baseline["by_emotion"]
    write_json(METRICS_FILE, {**metrics, "rows": len(target), "baselines": baselines})
    write_confusion(CONFUSION_FILE, target, predicted, facts.space)
    for name in ("accuracy", "top2_accuracy", "kl", "macro_f1", "mean_pearson"):
        constants = ", ".join(f"{key} {value[name]:.4f}" for key, value in baselines.items())
        print(f"{name} {metrics[name]:.4f} ({constants})")


if __name__ == "__main__":
    main()
