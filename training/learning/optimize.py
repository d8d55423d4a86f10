"""How a network learns: losses, parameter groups, schedules."""

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
    - cross_entropy: against the distribution; it differs from kl by the target's own entropy.
    - hard_cross_entropy: against the majority emotion alone (see `majority`), weighted by class.
    - label_drawing: against one emotion drawn from the distribution, anew each time (Barsoum et
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
        """The loss of a network; the members of an ensemble each learn alone."""
        if isinstance(network, Ensemble):
            each = [self(logits, target, generator) for logits in network.each(inputs)]
            return torch.stack(each).sum()
        return self(network(inputs), target, generator)


def majority(distributions: NDArray[np.float32]) -> NDArray[np.float32]:
    """One-hot (N, E): the leading emotion of each row."""
    hard: NDArray[np.float32] = np.eye(distributions.shape[1], dtype=np.float32)[
        distributions.argmax(1)
    ]
    return hard


def class_weights(target: Tensor, balance: float) -> Tensor:
    """Weights (E,) of mean 1: how often an emotion has the majority, to the power of -balance."""
    counts = target.argmax(1).bincount(minlength=target.shape[1]).clamp(min=1).float()
    weights = counts**-balance
    return weights / weights.mean()


def make_optimizer(
    network: nn.Module, model: ModelParams, recipe: TrainParams
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW, over the stages that are to learn.

    A stage learns with `layer_decay` times the rate of the one after it. Biases and norms have no
    weight decay. Parameters that need no gradient are left out.

    Raises:
        ParamsError: members of an ensemble want different optimizers.
    """
    wanted = {recipe.optimizer or each.optimizer for each in members(model.architecture)}
    if len(wanted) > 1:
        raise ParamsError(
            f"the members of {model.architecture} want different optimizers "
            f"({', '.join(sorted(wanted))}): choose train's optimizer, and a learning_rate with it"
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
    """The parameters of one network that are to learn, with their rates and decays."""
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
        if value.requires_grad:  # what is in no stage (a class token) goes with the first
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
    """Let only the last `trainable` stages learn (1: the head); returns the others.

    None leaves it to each architecture. Keep what is returned in `eval` mode, so that its batch
    norms keep their statistics.
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
    """One cycle (Smith, 2018), or a warm-up and half a cosine down to nearly nothing."""
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = max(1, steps)
    if recipe.schedule == "one_cycle":
        warm_up = recipe.warm_up
        if abs(warm_up * steps - 1) < 1e-6:  # it divides by what goes beyond the first step
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
