"""Data sets, prepare and validate."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from moodlake.emotions import label_space
from moodlake.settings import PROJECT_ROOT
from training.data_report.expectations import check
from training.data_set.preparation import prepare
from training.data_set.samples import load_raw_votes
from training.datasets import drawn, load_dataset
from training.datasets.base import DatasetError
from training.datasets.ferplus import PATH_VARIABLE
from training.params import DataParams, ParamsError, load_params

FERPLUS = label_space("ferplus")
REAL = Path(
    os.environ.get(PATH_VARIABLE, PROJECT_ROOT / "../shared/data/ferplus/ferplus_train_valid.npz")
)


def write_ferplus(path: Path, votes: list[list[int]], split: list[int]) -> DataParams:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (len(votes), 48, 48), dtype=np.uint8)
    names = np.array([*FERPLUS.emotions, "unknown", "NF"])
    arrays = {
        "pixels": pixels,
        "votes": np.array(votes, np.uint8),
        "split": np.array(split, np.uint8),
    }
    np.savez(path, vote_names=names, **arrays)
    return DataParams("ferplus", str(path))


def test_ferplus_drops_outlier_votes_and_images_without_a_face(tmp_path: Path) -> None:
    clear = [6, 3, 1, 0, 0, 0, 0, 0, 0, 0]
    unknown = [2, 0, 0, 0, 0, 0, 0, 0, 8, 0]
    scattered = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    params = write_ferplus(tmp_path / "f.npz", [clear, unknown, scattered, clear], [0, 0, 0, 1])
    data = load_dataset(params)
    assert data.ids == ["ferplus-00000", "ferplus-00003"]
    assert data.splits == ["train", "valid"]
    assert data.votes[0].tolist() == [6, 3, 0, 0, 0, 0, 0, 0]
    samples = tmp_path / "samples.parquet"
    prepare(data, params, samples, tmp_path / "facts.json")
    raw = load_raw_votes("valid", samples)
    assert raw is not None
    assert raw[0].tolist() == [6, 3, 1, 0, 0, 0, 0, 0]
    assert data.dropped == {"no emotion with two votes": 1, "unknown or not a face": 1}


def test_an_absent_ferplus_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    with pytest.raises(DatasetError, match=PATH_VARIABLE):
        load_dataset(DataParams("ferplus"))
    (tmp_path / "broken.npz").write_bytes(b"half a file")
    for name in ("absent.npz", "broken.npz"):
        with pytest.raises(DatasetError, match=name):
            load_dataset(DataParams("ferplus", str(tmp_path / name)))


@pytest.mark.skipif(not REAL.exists(), reason=f"the real FER+ is absent; {PATH_VARIABLE} names it")
def test_the_real_ferplus() -> None:
    data = load_dataset(DataParams("ferplus", str(REAL)))
    assert len(data.ids) == 31_253
    assert sum(data.dropped.values()) == 451


def test_the_drawn_faces_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "_COUNTS", {"train": 40, "valid": 10})
    first, second = (load_dataset(DataParams("drawn", seed=3)) for _ in range(2))
    assert np.array_equal(np.stack(first.images), np.stack(second.images))
    assert (first.votes == second.votes).all()


def test_prepare_drops_training_images_that_are_also_validation_images(tmp_path: Path) -> None:
    params = write_ferplus(tmp_path / "f.npz", [[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 3, [0, 0, 1])
    data = load_dataset(params)
    np.asarray(data.images[1])[:] = data.images[2]
    facts = prepare(data, params, tmp_path / "s.parquet", tmp_path / "facts.json")
    assert facts["dropped"]["also in another split"] == 1
    rows = pd.read_parquet(tmp_path / "s.parquet")
    assert rows["id"].tolist() == ["ferplus-00000", "ferplus-00002"]
    assert dict(rows["slices"][1])["like_a_training_image"] == "no"  # its copy is gone


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("prepared")
    params = DataParams("drawn")
    prepare(load_dataset(params), params, folder / "samples.parquet", folder / "facts.json")
    assert json.loads((folder / "facts.json").read_text())["rows"] == {"train": 640, "valid": 160}
    return pd.read_parquet(folder / "samples.parquet")


def failures(samples: pd.DataFrame) -> dict[str, list[str]]:
    outcomes = check(samples, FERPLUS)
    return {item["expectation"]: item["ids"] for item in outcomes if not item["success"]}


def test_good_samples_meet_every_expectation(samples: pd.DataFrame) -> None:
    assert failures(samples) == {}


@pytest.mark.parametrize(
    ("column", "value", "expectation"),
    [
        ("votes", np.zeros(8), "votes are present"),
        ("votes", np.array([-1.0, 9, 0, 0, 0, 0, 0, 0]), "no votes are negative"),
        ("votes", np.ones(7), "one count of votes for each emotion"),
        ("distribution", np.full(8, 0.1), "distributions sum to 1"),
        ("image", b"not an image", "images decode"),
        ("split", "holdout", "splits are known"),
    ],
)
def test_a_bad_row_is_named(
    samples: pd.DataFrame, column: str, value: Any, expectation: str
) -> None:
    bad = samples.copy()
    bad.at[5, column] = value
    assert failures(bad)[expectation] == [samples["id"][5]]


def test_an_image_in_both_splits_is_named(samples: pd.DataFrame) -> None:
    bad = samples.copy()
    bad.loc[5, "pixels_sha256"] = bad.loc[700, "pixels_sha256"]
    ids = failures(bad)["no training image is also a validation image"]
    assert ids == [samples["id"][5]]


def test_a_missing_class_is_named(samples: pd.DataFrame) -> None:
    without = samples[~((samples["split"] == "valid") & samples["id"].str.endswith("fear"))]
    without = without[[np.argmax(row) != 6 for row in without["distribution"]]]
    assert any("missing: fear); add images" in words for words in failures(without))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  name: drawn", "  name: drawn\n  colour: red", "unknown"),
        ("  size: null", "", "missing"),
        ("  size: null", "  size: 4", r"model\.size is 4: .* 16"),
        ("  loss: kl", "  loss: focal", r"train\.loss is 'focal': .*'kl'"),
        ("  warm_up: 0.2", "  warm_up: 2", r"train\.warm_up is 2"),
        ("      epochs: 8", "      epochs: -1", r"train\.by_data_set\.drawn\.epochs is -1: .* 0"),
        ("      ema_decay: 0.95", "      ema_decay: .nan", "ema_decay is nan: .*finite"),
        ("  epochs: null", "  epochs: many", r"train\.epochs is 'many': .* integer"),
        ("      epochs: 8", "      colour: 8", r"train\.by_data_set\.drawn\.colour is unknown"),
        ("  flip: true", "  flip: 2", r"augment\.flip is 2: .* boolean"),
        ("  flip: true", "  flip: [", "not YAML"),
        ("augment: ", "other: ", "augment is missing; other is unknown"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (PROJECT_ROOT / "params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ParamsError, match=message):
        load_params(path)


def test_numbers_in_scientific_notation_and_unquoted_versions_are_read(tmp_path: Path) -> None:
    text = (PROJECT_ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    text = text.replace("learning_rate: 0.05", "learning_rate: 5e-2")
    path.write_text(text.replace('version: "1.0"', "version: 3.0"))
    assert load_params(path).train.learning_rate == 0.05
    assert load_params(path).archive.version == "3.0"


SHARED = {
    "batch_size": 64,
    "loss": "kl",
    "class_balance": 1.0,
    "teachers": [],
    "teacher_share": 0.5,
    "optimizer": None,
    "weight_decay": None,
    "schedule": "one_cycle",
    "warm_up": 0.2,
    "trainable": None,
    "layer_decay": 1.0,
    "patience": 0,
    "seed": 1,
}


def with_params(folder: Path, **changes: Any) -> Path:
    """Write the project's params.yaml with some sections changed; returns its path."""
    content = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text("utf-8"))
    for section, values in changes.items():
        content[section] = content.get(section, {}) | values
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("drawn", {"epochs": 8, "learning_rate": 0.05, "ema_decay": 0.95, "mixup": 0.0}),
        ("ferplus", {"epochs": 9, "learning_rate": None, "ema_decay": 0.998, "mixup": 0.2}),
        ("emotion6", {"epochs": 20, "learning_rate": None, "ema_decay": 0.99, "mixup": 0.0}),
    ],
)
def test_each_data_set_has_its_recipe(tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    params = load_params(with_params(tmp_path, data={"name": name}))
    assert asdict(params.train) == SHARED | own


def test_a_value_of_train_overrides_that_of_a_data_set(tmp_path: Path) -> None:
    """So that `dvc exp run -S train.epochs=3` works whatever the data set."""
    recipe = load_params(with_params(tmp_path, train={"epochs": 3, "mixup": 0.4})).train
    assert (recipe.epochs, recipe.mixup, recipe.ema_decay) == (3, 0.4, 0.95)


def test_a_recipe_from_the_provenance_of_an_archive_is_valid(tmp_path: Path) -> None:
    recipe = asdict(load_params(PROJECT_ROOT / "params.yaml").train)
    content = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text("utf-8"))
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content | {"train": recipe}))
    assert asdict(load_params(path).train) == recipe


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"drawn": {"epochs": 8}}, r"train\.drawn is a whole .*train\.by_data_set\.drawn"),
        (
            "scoring",
            {"gate": {"max_broken": 0.5}},
            r"moodlake/scoring/policy\.yaml.*MOODLAKE_POLICY",
        ),
    ],
)
def test_an_error_names_the_new_place_of_a_moved_section(
    tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        load_params(with_params(tmp_path, **{section: values}))
