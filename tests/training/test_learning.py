"""Training: losses, batches, augmentation, and runs that are killed."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.training.small import made, small
from training import metrics
from training.architectures import preprocessing_of
from training.learning.augment import augment, mix
from training.learning.batches import Batches
from training.learning.network import predict_logits
from training.learning.optimize import Loss, class_weights, majority, make_schedule
from training.learning.trainer import Trainer
from training.params import ParamsError


def digest_of(network: torch.nn.Module) -> str:
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(state)).hexdigest()


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "mixup": 0.3},
        {"loss": "label_drawing", "layer_decay": 0.8},
        {"loss": "hard_cross_entropy", "trainable": 2},
        {"patience": 3, "epochs": 8, "learning_rate": 0.1, "ema_decay": 0.0},
    ],
)
def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    params = small(**changes)
    unbroken = Trainer(params, made(), made(16), tmp_path / "one.pt", "key").run()
    broken = Trainer(params, made(), made(16), tmp_path / "two.pt", "key")
    save = broken._save

    def save_and_die() -> None:
        save()
        if broken.epoch == 2:
            raise Killed

    monkeypatch.setattr(broken, "_save", save_and_die)
    with pytest.raises(Killed):
        broken.run()
    resumed = Trainer(params, made(), made(16), tmp_path / "two.pt", "key").run()
    assert digest_of(resumed) == digest_of(unbroken)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, checkpoint = small(), tmp_path / "c.pt"
    unbroken = Trainer(params, made(), made(16), tmp_path / "one.pt", "key").run()
    trainer = Trainer(params, made(), made(16), checkpoint, "key")
    save = torch.save

    def fill_the_disk(state: dict[str, object], part: Path) -> None:
        if state["epoch"] == 2:
            part.write_bytes(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, part)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            trainer.run()
    again = Trainer(params, made(), made(16), checkpoint, "key")
    assert digest_of(again.run()) == digest_of(unbroken)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_damaged_checkpoint_is_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = Trainer(small(), made(), made(16), tmp_path / "one.pt", "key").run()
    whole = (tmp_path / "one.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    again = Trainer(small(), made(), made(16), tmp_path / "c.pt", "key").run()
    assert digest_of(again) == digest_of(unbroken)
    assert "starting from the beginning" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    Trainer(small(epochs=1), made(), made(16), tmp_path / "c.pt", "one").run()
    other = Trainer(small(epochs=2), made(), made(16), tmp_path / "c.pt", "other")
    other.run()
    assert [curve["epoch"] for curve in other.curves] == [0, 1, 2]


def test_a_nan_loss_stops_the_run(tmp_path: Path) -> None:
    trainer = Trainer(small(learning_rate=1e30), made(), made(16), tmp_path / "c.pt", "key")
    with pytest.raises(ParamsError, match=r"loss became .* smaller learning_rate"):
        trainer.run()


def test_hard_labels_are_mixed_as_labels(tmp_path: Path) -> None:
    params = small(loss="hard_cross_entropy", mixup=0.4)
    trainer = Trainer(params, made(), made(16), tmp_path / "c.pt", "key")
    target = torch.cat([target for _, target in trainer.batches.epoch(0)])
    assert ((target > 0).sum(1) <= 2).all()
    assert ((target > 0).sum(1) == 2).any()


def test_training_learns(tmp_path: Path) -> None:
    split = made(32)
    trainer = Trainer(small(epochs=25), split, split, tmp_path / "c.pt", "key")
    trainer.run()
    prior = np.tile(split.distributions.mean(axis=0), (32, 1))
    assert trainer.curves[-1]["valid_kl"] < metrics.kl_divergence(split.distributions, prior)


def test_batches_of_an_epoch_hold_each_image_once() -> None:
    params, split = small(), made(50)
    split.distributions[:] = np.eye(50, 8)
    split.distributions[:, 0] = np.arange(50)
    batches = Batches(split, 16, preprocessing_of(params.model), params.augment, 0.0)
    first = list(batches.epoch(5))
    assert [inputs.shape for inputs, _ in first] == [(16, 1, 16, 16)] * 3
    rows = torch.cat([target[:, 0] for _, target in first])
    assert len(rows.unique()) == 48
    for (inputs, target), (again, same) in zip(first, batches.epoch(5), strict=True):
        assert torch.equal(inputs, again)
        assert torch.equal(target, same)
    assert not torch.equal(rows, torch.cat([target[:, 0] for _, target in batches.epoch(6)]))


def test_patience_keeps_the_best_epoch(tmp_path: Path) -> None:
    params = small(epochs=30, patience=2, learning_rate=0.05, ema_decay=0.0)
    trainer = Trainer(params, made(), made(16), tmp_path / "c.pt", "key")
    network = trainer.run()
    predicted = torch.from_numpy(
        predict_logits(network, trainer.valid.images, trainer.preprocessing)
    ).softmax(1)
    reached = metrics.kl_divergence(trainer.valid.distributions, predicted.numpy())
    assert reached == pytest.approx(min(curve["valid_kl"] for curve in trainer.curves), abs=1e-4)
    assert 0 < trainer._best_epoch() < trainer.epoch


def test_zero_epochs_keep_the_weights(tmp_path: Path) -> None:
    params = small(epochs=0)
    trainer = Trainer(params, made(), made(16), tmp_path / "c.pt", "key")
    before = digest_of(trainer.network)
    assert digest_of(trainer.run()) == before
    assert [set(curve) for curve in trainer.curves] == [{"epoch", "valid_kl", "valid_accuracy"}]


def test_augmentation_keeps_shape_and_range() -> None:
    pixels = torch.rand(40, 1, 16, 16)
    changed = augment(pixels, small().augment, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert not torch.equal(changed, pixels)
    assert 0 <= changed.min() <= changed.max() <= 1
    again = augment(pixels, small().augment, torch.Generator().manual_seed(0))
    assert torch.equal(changed, again)


def test_the_average_follows_the_weights_with_a_delay(tmp_path: Path) -> None:
    averaged, same = (
        Trainer(small(ema_decay=decay, epochs=1), made(), made(16), tmp_path / f"{decay}.pt", "key")
        for decay in (0.9, 0.0)
    )
    for trainer in (averaged, same):
        trainer.run()
    assert digest_of(averaged.network) == digest_of(same.network)
    assert digest_of(same.average) == digest_of(same.network)
    assert digest_of(averaged.average) != digest_of(averaged.network)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    trainer = Trainer(small(), made(), made(16), tmp_path / "c.pt", "key")
    with torch.no_grad():
        for value in list(trainer.network.parameters())[-2:]:  # the head
            value.mul_(1e4)
    inputs, target = next(iter(trainer.batches.epoch(0)))
    trainer._step(inputs, target, torch.Generator().manual_seed(0))
    gradients = [value.grad.norm() for value in trainer.network.parameters()]
    assert torch.stack(gradients).norm() == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_rate_is_highest_after_the_warm_up(schedule: str) -> None:
    recipe = replace(small().train, schedule=schedule, warm_up=0.3, learning_rate=0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    steps, rates = make_schedule(optimizer, recipe, 100), list[float]()
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert max(rates) == pytest.approx(0.5)
    assert np.argmax(rates) == pytest.approx(30, abs=1)
    assert rates[0] == pytest.approx(0.05)
    assert rates[-1] < 0.01


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("warm_up", [0.1, 0.2, 0.25, 0.5])
def test_a_schedule_of_few_steps(schedule: str, warm_up: float) -> None:
    recipe = replace(small().train, schedule=schedule, warm_up=warm_up)
    for count in range(21):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        steps = make_schedule(optimizer, recipe, count)
        for _ in range(count):
            optimizer.step()
            steps.step()
            assert np.isfinite(optimizer.param_groups[0]["lr"])


def test_mixing_blends_images_and_distributions_alike() -> None:
    pixels = torch.eye(6).view(6, 1, 1, 6).expand(6, 1, 6, 6)
    mixed, target = mix(pixels, torch.eye(6), 0.4, torch.Generator().manual_seed(0))
    assert target.sum(1) == pytest.approx(torch.ones(6))
    assert torch.allclose(mixed[:, 0, 0], target)
    assert not torch.equal(target, torch.eye(6))


def test_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]))
    target = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    chance = torch.Generator().manual_seed(0)
    kl = 0.5 * np.log(0.5 / 0.7) + 0.5 * np.log(0.5 / 0.2) - np.log(0.8)
    assert Loss("kl")(logits, target, chance).item() == pytest.approx(kl / 2, rel=1e-5)
    soft = -0.5 * np.log(0.7) - 0.5 * np.log(0.2) - np.log(0.8)
    assert Loss("cross_entropy")(logits, target, chance).item() == pytest.approx(soft / 2, rel=1e-5)
    hard = (-np.log(0.7) * 1.5 - np.log(0.8) * 0.5) / 2
    weighted = Loss("hard_cross_entropy", torch.tensor([1.5, 0.5, 1.0]))
    labels = torch.from_numpy(majority(target.numpy()))
    assert weighted(logits, labels, chance).item() == pytest.approx(hard, rel=1e-5)
    mixed = Loss("hard_cross_entropy")(logits, target, chance).item()
    assert mixed == pytest.approx(soft / 2, rel=1e-5)  # what mixup blends stays blended
    drawn = [Loss("label_drawing")(logits, target, chance).item() for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(soft / 2, rel=0.05)


def test_rare_emotions_weigh_more() -> None:
    target = torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0]])
    weights = class_weights(target, 1.0)
    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert class_weights(target, 0.0).tolist() == [1, 1, 1]


def test_training_stops_when_it_no_longer_improves(tmp_path: Path) -> None:
    params = small(epochs=50, patience=2, learning_rate=1e-9)
    trainer = Trainer(params, made(), made(16), tmp_path / "c.pt", "key")
    trainer.run()
    assert len(trainer.curves) < 10
