"""The page Data, for a prepared data set."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app.conftest import IMAGES

pytestmark = pytest.mark.e2e


def test_the_data_set_is_shown_with_its_charts(data_url: str, tab: Page) -> None:
    tab.goto(f"{data_url}/data")
    expect(tab.get_by_role("heading", name="emotion6")).to_be_visible()
    numbers = tab.get_by_test_id("stMetricValue")
    expect(numbers).to_have_count(2)
    expect(numbers.first).to_have_text(re.compile(r"\d"))
    assert sum(map(int, numbers.all_text_contents())) == IMAGES
    expect(tab.get_by_role("listitem").filter(has_text="surprise").first).to_be_visible()
    expect(tab.get_by_role("img", name="Training images of joy")).to_be_visible()
    for title in ("Histogram by split: Annotator disagreement", "Images by valence"):
        expect(tab.locator(f"[aria-label^='{title}']").first).to_be_visible()
    expect(tab.get_by_text("distributions sum to 1: passed")).to_be_visible()
