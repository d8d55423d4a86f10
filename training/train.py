"""Stage `train`: fit a network to the annotators' distributions.

A run that was interrupted goes on from its last whole epoch; see `_Checkpoint`.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from moodlake.preprocessing import Preprocessing
from training.architectures import build, preprocessing_of
from training.augment import augment, mix
from training.files import written_whole
from training.metrics import kl_divergence, top_k_accuracy
from training.optimize import Loss, balanced_weights, freeze, make_optimizer, make_schedule
from training.params import Params, ParamsError, load_params
from training.samples import load_split, read_facts

WEIGHTS_FILE = Path("build/weights.safetensors")
CURVES_FILE = Path("build/curves.csv")
CHECKPOINT_FILE = Path("training/runs/checkpoint.pt")
_GRADIENT_NORM = 5.0


@dataclass
class Split:
    """Images (N, C, s, s) uint8 and distributions (N, E) float32."""

    images: NDArray[np.uint8]
    distributions: NDArray[np.float32]


def predict_logits(
    network: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Logits (N, E) of a network over resized images (N, C, s, s) uint8."""
    network.eval()
    with torch.inference_mode():
        batches = [
            network(torch.from_numpy(preprocessing.normalise(images[start : start + 256])))
            for start in range(0, len(images), 256)
        ]
        logits: NDArray[np.float32] = torch.cat(batches).numpy()
    return logits


def load_network(params: Params, classes: int, weights: Path = WEIGHTS_FILE) -> nn.Module:
    """The trained network, ready to predict."""
    network = build(params.model, classes, pretrained=False)
    network.load_state_dict(safetensors.torch.load_file(weights))
    return network.eval()


class Trainer:
    """One training run.

    Args:
        params: the recipe.
        train, valid: the splits.
        checkpoint: where the state goes after each epoch.
        key: what the run depends on; a checkpoint of another key is not taken up.
    """

    def __init__(
        self, params: Params, train: Split, valid: Split, checkpoint: Path, key: str
    ) -> None:
        recipe = params.train
        torch.manual_seed(recipe.seed)
        self.params, self.train, self.valid = params, train, valid
        self.preprocessing = preprocessing_of(params.model)
        network = build(params.model, train.distributions.shape[1])
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = freeze(self.network, params.model.architecture, recipe.trainable)
        self.average = copy.deepcopy(self.network)
        self.steps = max(1, len(train.images) // recipe.batch_size)
        self.optimizer = make_optimizer(self.network, params.model, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, recipe.epochs * self.steps)
        weights = balanced_weights(torch.from_numpy(train.distributions))
        self.loss = Loss(recipe.loss, weights)
        self.epoch, self.curves = 0, list[dict[str, float]]()
        self._checkpoint, self._key = checkpoint, key

    def run(self) -> nn.Module:
        """Train to the last epoch; returns the averaged network."""
        self._resume()
        while self.epoch < self.params.train.epochs and not self._has_stalled():
            loss = self._train_epoch()
            self.epoch += 1
            self.curves.append(
                {"epoch": self.epoch, "train_loss": round(loss, 5), **self._measure()}
            )
            print(json.dumps(self.curves[-1]), flush=True)
            self._save()
        return self.average

    def _train_epoch(self) -> float:
        """One pass over the training split; returns the mean loss."""
        recipe = self.params.train
        seed = recipe.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.network.train()
        for stage in self.frozen:
            stage.eval()
        order = torch.randperm(len(self.train.images), generator=generator)
        batches = order[: self.steps * recipe.batch_size].split(recipe.batch_size)
        total = 0.0
        label = f"epoch {self.epoch + 1}/{recipe.epochs}"
        for rows in tqdm(batches, label, disable=not sys.stderr.isatty(), leave=False):
            total += self._step(rows, generator)
        return total / len(batches)

    def _step(self, rows: Tensor, generator: torch.Generator) -> float:
        pixels = torch.from_numpy(self.train.images[rows.numpy()]).float() / 255
        changed = augment(pixels, self.params.augment, generator)
        target = torch.from_numpy(self.train.distributions[rows.numpy()])
        if alpha := self.params.train.mixup:
            changed, target = mix(changed, target, alpha, generator)
        inputs = (changed - self.preprocessing.mean) / self.preprocessing.std
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        loss = self.loss.of(self.network, inputs, target, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return loss.item()

    def _update_average(self) -> None:
        """Exponential moving average of the weights, with a short memory at the start."""
        step = self.schedule.last_epoch
        decay = min(self.params.train.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            for mean, value in pairs:
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)

    def _has_stalled(self) -> bool:
        """The validation KL has not improved for `patience` epochs."""
        patience = self.params.train.patience
        reached = [curve["valid_kl"] for curve in self.curves]
        return bool(patience and len(reached) - int(np.argmin([*reached, np.inf])) > patience)

    def _measure(self) -> dict[str, float]:
        logits = predict_logits(self.average, self.valid.images, self.preprocessing)
        predicted = torch.from_numpy(logits).softmax(1).numpy()
        return {
            "valid_kl": round(kl_divergence(self.valid.distributions, predicted), 5),
            "valid_accuracy": round(top_k_accuracy(self.valid.distributions, predicted, 1), 5),
        }

    def _stateful(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._stateful().items()}
        state |= {"key": self._key, "epoch": self.epoch, "curves": self.curves}
        with written_whole(self._checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        if state["key"] != self._key:
            return
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.epoch, self.curves = state["epoch"], state["curves"]
        print(f"resuming after epoch {self.epoch}", flush=True)


def run_key(params: Params, data_digest: str) -> str:
    """What a run's result depends on, as a digest."""
    relevant = {**params.to_dict(), "data": data_digest, "archive": None}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Run the stage."""
    try:
        params = load_params()
        preprocessing = preprocessing_of(params.model)
        splits = [Split(*load_split(split, preprocessing)) for split in ("train", "valid")]
        trainer = Trainer(
            params, splits[0], splits[1], CHECKPOINT_FILE, run_key(params, read_facts().digest)
        )
    except ParamsError as error:
        sys.exit(f"train: {error}")
    network = trainer.run()
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    with written_whole(WEIGHTS_FILE) as part:
        safetensors.torch.save_file(weights, part)
    with written_whole(CURVES_FILE) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(trainer.curves[0]))
        writer.writeheader()
        writer.writerows(trainer.curves)
    CHECKPOINT_FILE.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
