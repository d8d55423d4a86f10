"""Compare the trainer's throughput with a bare loop over the same network.

`python -m training.tools.bench`; `make bench` runs it too.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from training.architectures import preprocessing_of
from training.learning.batches import Split
from training.learning.trainer import Trainer
from training.params import Params, load_params

_STEPS = 15
_ROUNDS = 5
"""Both alternate, so that a slowdown of the machine affects both; the first round warms up."""
_ARCHITECTURES = ("compact", "efficientnet_lite0")
_CLASSES = 8
_MIXUP = 0.2


def _made(params: Params, rows: int) -> Split:
    rng = np.random.default_rng(0)
    preprocessing = preprocessing_of(params.model)
    shape = (rows, preprocessing.channels, preprocessing.size, preprocessing.size)
    images = rng.integers(0, 255, shape, dtype=np.uint8)
    return Split(images, rng.dirichlet(np.ones(_CLASSES), rows).astype(np.float32))


def measure(architecture: str) -> tuple[float, float, float]:
    """Return medians: images/s of the trainer, of the bare loop, and share of time waiting."""
    params = load_params()
    recipe = replace(params.train, epochs=_ROUNDS, mixup=_MIXUP)
    params = replace(
        params, train=recipe, model=replace(params.model, architecture=architecture, weights="none")
    )
    rows = _STEPS * recipe.batch_size
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            params, _made(params, rows), _made(params, 8), Path(folder) / "c.pt", "bench"
        )
        batches = list(trainer.batches.epoch(0))
        rounds = [(*_trained(trainer), _bare(trainer, batches)) for _ in range(_ROUNDS)]
    trained, waited, bare = np.median(rounds[1:], axis=0).tolist()
    return rows / trained, rows / bare, waited / trained


def _trained(trainer: Trainer) -> tuple[float, float]:
    """Return the seconds of one epoch, and the seconds of it spent waiting for batches."""
    before, began = trainer.batches.waited, time.perf_counter()
    trainer._train_epoch()
    return time.perf_counter() - began, trainer.batches.waited - before


def _bare(trainer: Trainer, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the seconds for forward, loss, backward and step over tensors in memory."""
    network, optimizer = trainer.network.train(), trainer.optimizer
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    for inputs, target in batches:
        optimizer.zero_grad(set_to_none=True)
        inputs, target = inputs.to(trainer.device), target.to(trainer.device)
        trainer.loss.of(network, inputs, target, generator).backward()
        optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    shown = Table(
        "architecture",
        "training, images/s",
        "bare loop, images/s",
        "ratio (goal 0.9)",
        "waiting for data (goal 5 %)",
        title="moodlake bench: training",
    )
    for architecture in _ARCHITECTURES:
        trained, bare, waited = measure(architecture)
        cells = (f"{trained:.0f}", f"{bare:.0f}", f"{trained / bare:.2f}", f"{waited:.1%}")
        shown.add_row(architecture, *cells)
    Console().print(shown)


if __name__ == "__main__":
    main()
