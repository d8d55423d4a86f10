"""The pages Runs, Results, Compare and About, on tables written by real runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from infra.local.ports import Ports
from infra.local.web_app import WebAppService
from infra.stack import Stack
from moodlake.inference.bundle import read_meta
from moodlake.settings import RELEASED_ARCHIVE
from tests.app.conftest import BUCKET
from tests.app.test_try import upload, written
from tests.images_made import astronaut

pytestmark = pytest.mark.e2e

RELEASED = read_meta(RELEASED_ARCHIVE)


def rows(tab: Page) -> int:
    """Return the number of rows that the page shows."""
    metric = tab.get_by_test_id("stMetricValue").first
    expect(metric).to_have_text(re.compile(r"\d"))
    return int((metric.text_content() or "").replace(",", ""))


def select_row(tab: Page, name: str, number: int = 0) -> None:
    """Select a row of the table with this name."""
    table = tab.get_by_test_id("stDataFrame").filter(has=tab.locator(f"[aria-label*='{name}']"))
    place = {"x": 15, "y": 35 * (number + 1) + 17}
    table.scroll_into_view_if_needed()  # waits until it is stable
    table.locator("canvas").first.click(position=place, force=True)


def test_a_run_is_shown_with_its_counts_report_and_rows(url: str, tab: Page, stack: Stack) -> None:
    tab.goto(f"{url}/runs")
    expect(tab.get_by_role("heading", name="rescored")).to_be_visible()
    expect(tab.get_by_text("The file is not an image, whatever its name.")).to_be_visible()
    frame = tab.frame_locator("iframe")
    expect(frame.get_by_text(f"s3://{BUCKET}/").first).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Report (HTML)").click()
    assert BUCKET in Path(download.value.path()).read_text("utf-8")
    tab.get_by_role("link", name="Rows of this run").click()
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    assert "run=rescored" in tab.url
    assert rows(tab) == 14


def test_a_run_links_to_airflow(url: str, tab: Page, stack: Stack) -> None:
    tab.goto(f"{url}/runs")
    expect(tab.get_by_role("heading", name="rescored")).to_be_visible()
    select_row(tab, "Runs", 1)
    link = tab.get_by_role("link", name="This run in Airflow")
    expect(link).to_be_visible()
    address = link.get_attribute("href") or ""
    assert address == f"{stack.airflow.url}/dags/score_images/runs/manual__2026-11-30"


def test_results_are_filtered_and_a_row_is_traced(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results")
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    everything = rows(tab)
    tab.get_by_role("combobox", name="Status or reason").click()
    tab.get_by_role("option", name="truncated").click()
    expect(tab.get_by_test_id("stMetricValue").first).to_have_text("2")
    assert everything > 2
    assert "outcome=truncated" in tab.url
    tab.goto(f"{url}/results?emotion=neutral&prefix=sample/")
    expect(tab.get_by_role("list", name="Mean distribution")).to_be_visible()
    assert 0 < rows(tab) < everything
    select_row(tab, "Rows")
    expect(tab.get_by_text("Images in buckets are not shown")).to_be_visible()
    tab.locator("summary").filter(has_text=re.compile(r"Model$")).click()
    expect(tab.get_by_text(RELEASED["digest"])).to_be_visible()


def test_a_range_selected_in_a_chart_filters_the_rows(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results")
    chart = tab.get_by_test_id("stVegaLiteChart").first
    chart.hover()  # waits until it is stable
    place = chart.bounding_box()
    assert place
    middle = place["y"] + place["height"] / 2
    tab.mouse.move(place["x"] + 0.6 * place["width"], middle)
    tab.mouse.down()
    tab.mouse.move(place["x"] + 0.9 * place["width"], middle, steps=5)
    tab.mouse.up()
    caption = tab.get_by_text(re.compile(r"confidence from \d+ % to \d+ %"))
    expect(caption).to_be_visible()
    least, most = map(int, re.findall(r"(\d+) %", caption.inner_text()))
    assert 30 < least < most < 100
    tab.mouse.move(place["x"] + 0.2 * place["width"], middle)
    tab.mouse.down()
    tab.mouse.move(place["x"] + 0.25 * place["width"], middle, steps=5)
    tab.mouse.up()
    expect(caption).not_to_contain_text(f"{least} % to {most} %")


def test_an_image_in_a_bucket_is_shown_if_allowed(open_url: str, tab: Page) -> None:
    tab.goto(f"{open_url}/results?prefix=photos/astronaut&emotion=happiness")
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    expect(tab.get_by_role("img", name="The image photos/astronaut.png")).to_be_visible()


def test_a_filter_without_matches_shows_a_message(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results?prefix=nowhere/")
    expect(tab.get_by_text("No rows match")).to_be_visible()


def test_two_models_are_compared_side_by_side(url: str, tab: Page) -> None:
    tab.goto(f"{url}/compare")
    expect(tab.get_by_text("Scored by both")).to_be_visible()
    expect(tab.get_by_role("list", name="Emotions by emotions")).to_have_count(2)
    expect(tab.get_by_text("8.0").first).to_be_visible()
    frame = tab.frame_locator("iframe")
    expect(frame.get_by_text("Images scored by both")).to_be_visible()


def test_about_shows_the_model_card_and_the_law(url: str, tab: Page) -> None:
    tab.goto(f"{url}/about")
    expect(tab.get_by_text("EU law (AI Act, Art. 5(1)(f)) forbids").first).to_be_visible()
    expect(tab.get_by_text(RELEASED["digest"])).to_be_visible()
    expect(tab.get_by_role("cell", name="contempt", exact=True)).to_be_visible()
    expect(tab.get_by_role("img", name="Learning curves")).to_be_visible()


@pytest.fixture
def bare_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a web app without model server and tables."""
    environment = {
        "MOODLAKE_SERVER_URL": "http://127.0.0.1:9",
        "MOODLAKE_RESULTS_URI": str(tmp_path / "lake"),
    }
    with WebAppService(tmp_path / "page", Ports.free().page, environment) as service:
        service.wait()
        yield service.url


def test_each_page_gives_advice_without_server_and_tables(
    bare_url: str, tab: Page, files: Path
) -> None:
    tab.goto(bare_url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text("no answer from the model server")).to_be_visible()
    expect(tab.get_by_role("button", name="Retry")).to_be_visible()
    for page, message in {
        "runs": "No run has ended yet",
        "results": "No images have been scored yet",
        "compare": "No images have been scored yet",
        "about": "no answer from the model server",
    }.items():
        tab.goto(f"{bare_url}/{page}")
        expect(tab.get_by_text(message)).to_be_visible()


def test_unreadable_tables_are_reported(tab: Page, tmp_path: Path) -> None:
    environment = {
        "MOODLAKE_RESULTS_URI": "s3://nowhere",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    with WebAppService(tmp_path / "page", Ports.free().page, environment) as service:
        service.wait()
        tab.goto(f"{service.url}/results")
        message = tab.get_by_text("Cannot read the tables")
        expect(message).to_be_visible(timeout=180_000)
        assert "[31m" not in (message.text_content() or "")
        assert "secret-of-nobody" not in tab.content()
