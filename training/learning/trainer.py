"""Train a network, average its weights, and save a checkpoint after each epoch."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.architectures import build, members_of, preprocessing_of, settle_norms
from training.files import written_whole
from training.learning.batches import Batches, Split
from training.learning.network import predict_logits
from training.learning.optimize import (
    Loss,
    class_weights,
    freeze,
    majority,
    make_optimizer,
    make_schedule,
)
from training.metrics import kl_divergence, top_k_accuracy
from training.params import Params, ParamsError

_GRADIENT_NORM = 5.0
_SETTLING = 512
"""Number of images used to initialise batch norms that have no statistics."""


class Trainer:
    """One training run.

    Args:
        params: the recipe.
        train, valid: the splits.
        checkpoint: file that the training state is saved to after each epoch.
        key: digest of the inputs of the run; a checkpoint with another key is ignored.
        emotions: names of the columns of the distributions, if known.

    Raises:
        ParamsError: the network is unknown or does not support these parameters.
    """

    def __init__(
        self,
        params: Params,
        train: Split,
        valid: Split,
        checkpoint: Path,
        key: str,
        emotions: tuple[str, ...] | None = None,
    ) -> None:
        recipe = params.train
        torch.manual_seed(recipe.seed)
        if recipe.loss == "hard_cross_entropy":
            train = Split(train.images, majority(train.distributions))
        self.params, self.train, self.valid = params, train, valid
        self.preprocessing = preprocessing_of(params.model)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build(params.model, train.distributions.shape[1], emotions=emotions)
        first = self.preprocessing.normalise(train.images[:_SETTLING])
        settle_norms(network, params.model, torch.from_numpy(first))
        self.network = network.to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self.frozen = freeze(self.network, params.model, recipe.trainable)
        self.average = copy.deepcopy(self.network)
        self.best = copy.deepcopy(self.average.state_dict())
        self.batches = Batches(
            train, recipe.batch_size, self.preprocessing, params.augment, recipe.mixup
        )
        self.optimizer = make_optimizer(self.network, params.model, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, recipe.epochs * len(self.batches))
        weights = class_weights(torch.from_numpy(train.distributions), recipe.class_balance)
        self.loss = Loss(recipe.loss, weights.to(self.device))
        self.epoch, self.curves = 0, list[dict[str, float]]()
        self._checkpoint, self._key = checkpoint, key

    def run(self) -> nn.Module:
        """Train to the last epoch; return the averaged network.

        With `patience`, training may stop early and returns the average from the best epoch.

        Raises:
            ParamsError: the loss became infinite or NaN.
        """
        self._resume()
        if not self.curves:
            self.curves.append({"epoch": 0, **self._measure()})
        while self.epoch < self.params.train.epochs and not self._has_stalled():
            loss = self._train_epoch()
            self.epoch += 1
            self.curves.append(
                {"epoch": self.epoch, "train_loss": round(loss, 5), **self._measure()}
            )
            if self._best_epoch() == self.epoch:
                self.best = copy.deepcopy(self.average.state_dict())
            print(json.dumps(self.curves[-1]), flush=True)
            self._save()
        if self.params.train.patience:
            self.average.load_state_dict(self.best)
        return self.average

    def _train_epoch(self) -> float:
        """Train on the training split once; return the mean loss."""
        recipe = self.params.train
        seed = recipe.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.network.train()
        for part in self.frozen:
            part.eval()
        total = 0.0
        label = f"epoch {self.epoch + 1}/{recipe.epochs}"
        batches = tqdm(
            self.batches.epoch(seed),
            label,
            len(self.batches),
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        for inputs, target in batches:
            total += self._step(inputs, target, generator)
        return total / len(self.batches)

    def _step(self, inputs: Tensor, target: Tensor, generator: torch.Generator) -> float:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.loss.of(
                self.network, inputs.to(self.device), target.to(self.device), generator
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for _, member in members_of(self.network, self.params.model.architecture):
            nn.utils.clip_grad_norm_(member.parameters(), _GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        value = loss.item()
        if not math.isfinite(value):
            raise ParamsError(
                f"the loss became {value} in epoch {self.epoch + 1}; try a smaller learning_rate"
            )
        return value

    def _update_average(self) -> None:
        """Update the exponential moving average, with a smaller decay in the first steps."""
        step = self.schedule.last_epoch
        decay = min(self.params.train.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            for mean, value in pairs:
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)

    def _best_epoch(self) -> int:
        """Return the epoch with the lowest validation KL so far; 0 means before training."""
        return int(np.argmin([curve["valid_kl"] for curve in self.curves]))

    def _has_stalled(self) -> bool:
        patience = self.params.train.patience
        return bool(patience) and self.epoch - self._best_epoch() >= patience

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
        state |= {"best": self.best, "key": self._key}
        state |= {"epoch": self.epoch, "curves": self.curves}
        with written_whole(self._checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        try:
            state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        except Exception as error:  # any error that a damaged file causes
            print(
                f"{self._checkpoint} cannot be read ({error}); starting from the beginning",
                file=sys.stderr,
            )
            return
        if state.get("key") != self._key:
            return
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.best, self.epoch, self.curves = state["best"], state["epoch"], state["curves"]
        print(f"resuming after epoch {self.epoch}", flush=True)
