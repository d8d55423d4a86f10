"""Training, metrics and the archive."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from moodlake.emotions import label_space
from moodlake.faces import FaceMode
from moodlake.images import decode
from moodlake.model import Model
from moodlake.settings import PROJECT_ROOT
from tests.images_made import jpeg
from training import metrics
from training.architectures import build, preprocessing_of
from training.archive import HANDLER_FILE, write_archive
from training.augment import augment, mix
from training.batches import Batches, Split
from training.bundle import BundleDiffers, check_bundle, write_bundle
from training.calibrate import Calibration
from training.optimize import Loss, class_weights
from training.params import Params, load_params
from training.samples import Facts
from training.train import Trainer, predict_logits

SPACE = label_space("ferplus")
FACTS = Facts("made", SPACE, FaceMode.NONE, "digest")


def small(**changes: object) -> Params:
    params = load_params(PROJECT_ROOT / "params.yaml")
    recipe = replace(
        params.train, epochs=3, batch_size=16, learning_rate=0.05, weight_decay=0.0, ema_decay=0.9
    )
    model = replace(params.model, size=16)
    return replace(params, train=replace(recipe, **changes), model=model)  # type: ignore[arg-type]


def made(count: int = 64) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 1, 16, 16), dtype=np.uint8)
    return Split(images, rng.dirichlet(np.ones(8), count).astype(np.float32))


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


def test_a_damaged_checkpoint_is_not_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = Trainer(small(), made(), made(16), tmp_path / "one.pt", "key").run()
    whole = (tmp_path / "one.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    again = Trainer(small(), made(), made(16), tmp_path / "c.pt", "key").run()
    assert digest_of(again) == digest_of(unbroken)
    assert "starting anew" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_left_alone(tmp_path: Path) -> None:
    Trainer(small(epochs=1), made(), made(16), tmp_path / "c.pt", "one").run()
    other = Trainer(small(epochs=2), made(), made(16), tmp_path / "c.pt", "other")
    other.run()
    assert [curve["epoch"] for curve in other.curves] == [1, 2]


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
    params = small(epochs=30, patience=3, learning_rate=2.0, ema_decay=0.0)
    trainer = Trainer(params, made(), made(16), tmp_path / "c.pt", "key")
    network = trainer.run()
    predicted = torch.from_numpy(
        predict_logits(network, trainer.valid.images, trainer.preprocessing)
    ).softmax(1)
    reached = metrics.kl_divergence(trainer.valid.distributions, predicted.numpy())
    assert reached == pytest.approx(min(curve["valid_kl"] for curve in trainer.curves), abs=1e-4)


def test_augmentation_keeps_shape_and_range() -> None:
    pixels = torch.rand(40, 1, 16, 16)
    changed = augment(pixels, small().augment, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    again = augment(pixels, small().augment, torch.Generator().manual_seed(0))
    assert torch.equal(changed, again)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    network = build(small().model, 8).eval()
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    return network, weights


def test_the_archive_built_twice_is_the_same(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    network, weights = trained
    digests = set()
    for name in ("one", "two"):
        bundle, archive = tmp_path / name, tmp_path / f"{name}.mar"
        write_bundle(bundle, network, small(), FACTS, weights, Calibration(1.5), {"kl": 0.5})
        write_archive(bundle, archive, small(), PROJECT_ROOT / HANDLER_FILE)
        digests.add(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration(1.7),
        Calibration(1.0, tuple(np.linspace(0.5, 1.5, 8)), tuple(np.linspace(-1, 1, 8))),
    ],
)
def test_what_is_served_is_what_was_trained(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path, calibration: Calibration
) -> None:
    network, weights = trained
    params = replace(small(), archive=replace(small().archive, precision="fp32"))
    write_bundle(tmp_path, network, params, FACTS, weights, calibration, {})
    served, images = Model.load(tmp_path), [jpeg(seed, 50, 40) for seed in range(5)]
    preprocessing = preprocessing_of(small().model)
    resized = np.stack([preprocessing.resize(decode(image).pixels) for image in images])
    expected = calibration(predict_logits(network, resized, preprocessing))
    for prediction, row in zip(served.score(images), expected, strict=True):
        assert prediction.distribution is not None
        assert list(prediction.distribution.values()) == pytest.approx(row.tolist(), abs=1e-5)


def test_half_precision_halves_the_bundle_and_keeps_its_word(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    network, weights = trained
    split = made(40)
    expected = Calibration()(predict_logits(network, split.images, preprocessing_of(small().model)))
    sizes = {}
    for precision in ("fp32", "fp16"):
        params = replace(small(), archive=replace(small().archive, precision=precision))
        folder = tmp_path / precision
        write_bundle(folder, network, params, FACTS, weights, Calibration(), {})
        cost = check_bundle(folder, split.images, split.distributions, expected)
        assert abs(cost["kl_gained"]) < 1e-3
        sizes[precision] = sum(file.stat().st_size for file in folder.iterdir())
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    better = np.eye(8)[split.distributions.argmax(1)] * 0.9 + 0.0125
    with pytest.raises(BundleDiffers, match="another precision"):
        check_bundle(folder, split.images, split.distributions, better)


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
    assert weighted(logits, target, chance).item() == pytest.approx(hard, rel=1e-5)
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
