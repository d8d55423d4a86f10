"""Training, metrics and the archive."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from moodlake.emotions import label_space
from moodlake.faces import FaceMode
from moodlake.images import decode
from moodlake.model import Model
from moodlake.settings import PROJECT_ROOT
from tests.images_made import jpeg
from training import metrics
from training.architectures import build, preprocessing_of
from training.archive import HANDLER_FILE, write_archive, write_bundle
from training.augment import augment
from training.params import Params, load_params
from training.samples import Facts
from training.train import Split, Trainer, predict

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
        write_bundle(bundle, network, small(), FACTS, weights, {"kl": 0.5})
        write_archive(bundle, archive, small(), PROJECT_ROOT / HANDLER_FILE)
        digests.add(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_what_is_served_is_what_was_trained(
    trained: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    network, weights = trained
    write_bundle(tmp_path, network, small(), FACTS, weights, {})
    served, images = Model.load(tmp_path), [jpeg(seed, 50, 40) for seed in range(5)]
    preprocessing = preprocessing_of(small().model)
    resized = np.stack([preprocessing.resize(decode(image).pixels) for image in images])
    expected = predict(network, resized, preprocessing)
    for prediction, row in zip(served.score(images), expected, strict=True):
        assert prediction.distribution is not None
        assert list(prediction.distribution.values()) == pytest.approx(row.tolist(), abs=1e-5)


def test_metrics_by_hand() -> None:
    target = np.array([[0.5, 0.5, 0], [1, 0, 0]])
    predicted = np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    assert metrics.kl_divergence(target, predicted) == pytest.approx(
        (0.5 * np.log(2) + np.log(2)) / 2
    )
    assert metrics.top_k_accuracy(target, predicted, 1) == 0.5
    assert metrics.top_k_accuracy(target, predicted, 2) == 1
    assert metrics.confusion_matrix(target, predicted).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert metrics.f1_scores(np.array([[1, 1], [0, 2]])) == pytest.approx([2 / 3, 4 / 5])
    assert metrics.calibration_error(target, predicted) == pytest.approx(0.0)
    assert metrics.pearson(target, predicted)[0] == pytest.approx(1)


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy() -> None:
    """Three in four right at a confidence of 0.9, one in two at 0.6: 0.15 and 0.1."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    right = np.array([1, 1, 1, 0, 1, 0], bool)
    predicted = np.stack([confidence, 1 - confidence], 1)
    target = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    expected = 4 / 6 * 0.15 + 2 / 6 * 0.1
    assert metrics.calibration_error(target, predicted) == pytest.approx(expected)


distributions = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(
    lambda row: np.array([row]) / sum(row)
)


@given(distributions, distributions)
def test_kl_is_zero_for_itself_and_never_below(one: np.ndarray, other: np.ndarray) -> None:
    assert metrics.kl_divergence(one, one) == pytest.approx(0, abs=1e-12)
    assert metrics.kl_divergence(one, other) >= -1e-12
