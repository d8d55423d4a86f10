"""Data: what the stages wrote of a data set, as the page shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from playwright.sync_api import Page, expect

from infra.local.page import PageService
from infra.local.ports import Ports
from moodlake.emotions import label_space
from moodlake.settings import PROJECT_ROOT, Settings
from tests.training.published import EMOTION6_HEADER, image, write_table
from tests.training.stages import run_stage

pytestmark = pytest.mark.e2e

IMAGES = 60


def many_of_emotion6(folder: Path) -> Path:
    """In the format that Emotion6 is published in."""
    rng = np.random.default_rng(6)
    emotions = label_space("emotion6").emotions
    rows: list[list[object]] = []
    for number in range(IMAGES):
        shares = rng.multinomial(15, rng.dirichlet(np.ones(len(emotions)))) / 15
        feeling = rng.uniform(1, 9, 2).round(2)
        rows.append([f"joy/{number}.jpg", *feeling.tolist(), *shares.round(7).tolist()])
        image(folder / "images" / f"joy/{number}.jpg", number)
    write_table(folder / "ground_truth.txt", EMOTION6_HEADER, rows, tab=True)
    return folder


@pytest.fixture(scope="module")
def data_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("data")
    params = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text("utf-8"))
    params["data"] |= {"name": "emotion6", "path": str(many_of_emotion6(folder / "emotion6"))}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in ("prepare", "validate", "overview"):
        run_stage(stage, folder)
    settings = Settings(
        results_uri=str(folder / "lake"), data_overview=folder / "data" / "overview"
    )
    with PageService(folder / "page", Ports.free().page, settings.to_environment()) as service:
        service.wait()
        yield service.url


def test_the_data_set_is_told_with_its_plane(data_url: str, tab: Page) -> None:
    tab.goto(f"{data_url}/data")
    expect(tab.get_by_role("heading", name="emotion6")).to_be_visible()
    numbers = tab.get_by_test_id("stMetricValue")
    expect(numbers).to_have_count(2)
    expect(numbers.first).to_have_text(re.compile(r"\d"))
    assert sum(map(int, numbers.all_text_contents())) == IMAGES
    expect(tab.get_by_role("listitem").filter(has_text="surprise").first).to_be_visible()
    expect(tab.get_by_role("img", name="Training images that read as joy")).to_be_visible()
    for title in ("Histogram by split: How much annotators disagree", "Images by valence"):
        expect(tab.locator(f"[aria-label^='{title}']").first).to_be_visible()
    expect(tab.get_by_text("distributions sum to 1: met")).to_be_visible()
