"""Losses, optimizers and learning-rate schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.architectures import members, members_of
from training.architectures.base import Architecture
from training.architectures.ensemble import Ensemble
from training.params import ModelParams, ParamsError, TrainParams

_FINAL_SHARE = 1 / 300
_START_SHARE = 1 / 10
_MOMENTUM = 0.9


class Loss:
    """The loss of logits (N, E) against the annotators' distributions (N, E).

    - kl: KL(target || model).
    - cross_entropy: against the distribution; differs from kl by the target's entropy.
    - hard_cross_entropy: against the majority emotion alone (see `majority`), weighted by class.
    - label_drawing: against one emotion drawn from the distribution at each step (Barsoum et
      al., ICMI 2016, "probabilistic label drawing").

    Args:
        name: of the loss.
        weights: (E,) of the classes, for hard_cross_entropy.
    """

    def __init__(self, name: str, weights: Tensor | None = None) -> None:
        self.name = name
        self.weights = weights

    def __call__(self, logits: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        if self.name == "kl":
            return functional.kl_div(logits.log_softmax(1), target, reduction="batchmean")
        if self.name == "cross_entropy":
            return functional.cross_entropy(logits, target)
        if self.name == "label_drawing":
            drawn = torch.multinomial(target.cpu(), 1, generator=generator)[:, 0]
            return functional.cross_entropy(logits, drawn.to(logits.device))
        weights = torch.ones_like(target[0]) if self.weights is None else self.weights
        total = functional.cross_entropy(logits, target, weights, reduction="sum")
        return total / (target @ weights).sum()

    def of(
        self, network: nn.Module, inputs: Tensor, target: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the loss of a network; each member of an ensemble learns independently."""
        if isinstance(network, Ensemble):
            each = [self(logits, target, generator) for logits in network.each(inputs)]
            return torch.stack(each).sum()
        return self(network(inputs), target, generator)


def majority(distributions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the leading emotion of each row, one-hot (N, E)."""
    hard: NDArray[np.float32] = np.eye(distributions.shape[1], dtype=np.float32)[
        distributions.argmax(1)
    ]
    return hard


def class_weights(target: Tensor, balance: float) -> Tensor:
    """Return class weights (E,) of mean 1: frequency of the majority emotion ** -balance."""
    counts = target.argmax(1).bincount(minlength=target.shape[1]).clamp(min=1).float()
    weights = counts**-balance
    return weights / weights.mean()


def make_optimizer(
    network: nn.Module, model: ModelParams, recipe: TrainParams
) -> torch.optim.Optimizer:
    """Build SGD with Nesterov momentum or AdamW over the trainable stages.

    A stage learns with `layer_decay` times the rate of the next one. Biases and norms have no
    weight decay. Frozen parameters are left out.

    Raises:
        ParamsError: members of an ensemble have different default optimizers.
    """
    wanted = {recipe.optimizer or each.optimizer for each in members(model.architecture)}
    if len(wanted) > 1:
        raise ParamsError(
            f"the members of {model.architecture} have different default optimizers "
            f"({', '.join(sorted(wanted))}); set train.optimizer and train.learning_rate"
        )
    options = [
        group
        for architecture, member in members_of(network, model.architecture)
        for group in _groups(architecture, member, recipe)
    ]
    if wanted == {"sgd"}:
        return torch.optim.SGD(options, lr=0.0, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(options, lr=0.0)


def _groups(
    architecture: Architecture, network: nn.Module, recipe: TrainParams
) -> list[dict[str, Any]]:
    """Group the trainable parameters of one network by learning rate and decay."""
    rate = recipe.learning_rate or architecture.learning_rate
    decay = architecture.weight_decay if recipe.weight_decay is None else recipe.weight_decay
    parts = architecture.stages(network)
    depths = {
        value: len(parts) - 1 - index
        for index, part in enumerate(parts)
        for value in part.parameters()
    }
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for value in network.parameters():
        if value.requires_grad:  # parameters outside stages (a class token) go with the first
            key = depths.get(value, len(parts) - 1), value.ndim > 1
            groups.setdefault(key, []).append(value)
    return [
        {
            "params": values,
            "lr": rate * recipe.layer_decay**depth,
            "weight_decay": decay if is_matrix else 0.0,
        }
        for (depth, is_matrix), values in groups.items()
    ]


def freeze(network: nn.Module, model: ModelParams, trainable: int | None) -> list[nn.Module]:
    """Freeze all but the last `trainable` stages (1: the head); returns the frozen ones.

    None uses each architecture's default. Keep the frozen stages in `eval` mode, so that their
    batch norms keep their statistics.
    """
    frozen: list[nn.Module] = []
    for architecture, member in members_of(network, model.architecture):
        parts = architecture.stages(member)
        own = None if model.weights == "none" else architecture.trainable
        start = len(parts) - (trainable or own or len(parts))
        if start > 0:
            member.requires_grad_(False)
            frozen.extend(parts[:start])
            for part in parts[start:]:
                part.requires_grad_(True)
    return frozen


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: TrainParams, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build one cycle (Smith, 2018), or a warm-up and half a cosine to near 0."""
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = max(1, steps)
    if recipe.schedule == "one_cycle":
        warm_up = recipe.warm_up
        if abs(warm_up * steps - 1) < 1e-6:  # it divides by the steps beyond the first
            warm_up = 1.5 / steps
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            rates,
            total_steps=steps,
            pct_start=warm_up,
            div_factor=1 / _START_SHARE,
            final_div_factor=_START_SHARE / _FINAL_SHARE,
        )
    warm = max(1, round(recipe.warm_up * steps))
    schedulers: list[torch.optim.lr_scheduler.LRScheduler] = [
        torch.optim.lr_scheduler.LinearLR(optimizer, _START_SHARE, 1, warm),
        torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, steps - warm), eta_min=min(rates) * _FINAL_SHARE
        ),
    ]
    return torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers, [warm])
