"""The stages of dvc.yaml one after the other, as commands, in a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from moodlake.inference.model import Model
from moodlake.settings import PROJECT_ROOT
from tests.images_made import jpeg
from tests.training.stages import STAGES, run_stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages, run over few rows with an ensemble and vector scaling."""
    made = tmp_path_factory.mktemp("pipeline")
    params = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text("utf-8"))
    params["data"]["limit"] = 200
    params["model"] |= {"architecture": "compact+fer_cnn", "size": 32}
    params["train"]["epochs"] = 2
    params["calibrate"]["method"] = "vector"
    (made / "params.yaml").write_text(yaml.safe_dump(params))
    (made / "handlers").mkdir()
    for stage in STAGES:
        run_stage(stage, made)
    return made


def test_every_output_is_there(folder: Path) -> None:
    for stage, content in STAGES.items():
        outputs = [*content.get("outs", ()), *content.get("metrics", ()), *content.get("plots", ())]
        for output in outputs:
            path = output if isinstance(output, str) else next(iter(output))
            assert (folder / path).exists(), f"{stage} did not make {path}"


def test_the_archive_predicts_and_holds_its_provenance(folder: Path) -> None:
    model = Model.load(folder / "build" / "emotions.mar")
    prediction = model.score([jpeg()])[0]
    assert prediction.distribution is not None
    assert sum(prediction.distribution.values()) == pytest.approx(1, abs=1e-5)
    assert model.provenance["params"]["model"]["architecture"] == "compact+fer_cnn"
    assert model.provenance["data_name"] == "drawn"
    assert model.reference is not None
    facts = json.loads((folder / "data" / "prepared" / "facts.json").read_text())
    assert sum(model.reference["dominant"].values()) == facts["rows"]["valid"]


def test_the_model_card_states_the_numbers_of_the_report_and_the_forbidden_use(
    folder: Path,
) -> None:
    card = (folder / "build" / "MODEL_CARD.md").read_text()
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    for value in metrics.values():
        assert f"**{value:.4f}**" in card
    assert "Art. 5(1)(f)" in card
    assert "says nothing about" in card
    assert Model.load(folder / "build" / "emotions.mar").identity.digest[:12] in card


def test_the_report_is_complete(folder: Path) -> None:
    report = json.loads((folder / "metrics" / "report.json").read_text())
    headlines = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert headlines == {name: report["metrics"][name] for name in headlines}
    for name, value in report["metrics"].items():
        low, high = report["intervals"][name]
        if "calibration" not in name:  # resampling adds noise to these
            assert low <= value <= high, name
        for baseline in report["baselines"].values():
            assert np.isfinite(baseline[name])
    assert 0 < report["people"]["one_against_the_rest"] <= 1
    assert set(report["by_slice"]) >= {"brightness", "contrast", "like_a_training_image"}
    assert len(report["by_emotion"]) == 8
    assert set(report["without_neutral"]) == set(report["metrics"])
    assert report["without_neutral"]["kl"] != report["metrics"]["kl"]
    assert report["on_raw_votes"] == {}  # nobody slips in the drawn data
