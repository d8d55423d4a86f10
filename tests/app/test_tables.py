"""Runs, Results, Compare, Data and About, over tables that real runs wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from infra.local.page import PageService
from infra.local.ports import Ports
from infra.stack import Stack
from moodlake.inference.bundle import read_meta
from moodlake.settings import RELEASED_ARCHIVE
from tests.app.conftest import BUCKET
from tests.app.test_try import upload, written
from tests.images_made import astronaut

pytestmark = pytest.mark.e2e

RELEASED = read_meta(RELEASED_ARCHIVE)


def rows(tab: Page) -> int:
    """How many the page says there are."""
    told = tab.get_by_test_id("stMetricValue").first
    expect(told).to_have_text(re.compile(r"\d"))
    return int((told.text_content() or "").replace(",", ""))


def choose_row(tab: Page, name: str, number: int = 0) -> None:
    """Tick a row of the table of that name."""
    table = tab.get_by_test_id("stDataFrame").filter(has=tab.locator(f"[aria-label*='{name}']"))
    place = {"x": 15, "y": 35 * (number + 1) + 17}
    table.scroll_into_view_if_needed()  # waits until it moves no more
    table.locator("canvas").first.click(position=place, force=True)


def test_runs_tell_how_they_went_and_where_they_came_from(
    url: str, tab: Page, stack: Stack
) -> None:
    tab.goto(f"{url}/runs")
    expect(tab.get_by_role("heading", name="rescored")).to_be_visible()
    expect(tab.get_by_text("The bytes are not an image, whatever the name says.")).to_be_visible()
    frame = tab.frame_locator("iframe")
    expect(frame.get_by_text(f"s3://{BUCKET}/").first).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Report (HTML)").click()
    assert BUCKET in Path(download.value.path()).read_text("utf-8")
    tab.get_by_role("link", name="Rows of this run").click()
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    assert "run=rescored" in tab.url
    assert rows(tab) == 14


def test_a_run_of_airflow_is_linked(url: str, tab: Page, stack: Stack) -> None:
    tab.goto(f"{url}/runs")
    expect(tab.get_by_role("heading", name="rescored")).to_be_visible()
    choose_row(tab, "Runs", 1)
    link = tab.get_by_role("link", name="This run in Airflow")
    expect(link).to_be_visible()
    address = link.get_attribute("href") or ""
    assert address.startswith(f"{stack.airflow.url}/dags/score_images/runs/")


def test_results_are_filtered_charted_and_traced(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results")
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    everything = rows(tab)
    tab.get_by_role("combobox", name="Outcome").click()
    tab.get_by_role("option", name="truncated").click()
    expect(tab.get_by_test_id("stMetricValue").first).to_have_text("2")
    assert everything > 2
    assert "outcome=truncated" in tab.url
    tab.goto(f"{url}/results?emotion=neutral&prefix=sample/")
    expect(tab.get_by_role("list", name="Emotions on average")).to_be_visible()
    assert 0 < rows(tab) < everything
    choose_row(tab, "Rows")
    expect(tab.get_by_text("Images of buckets are not shown here")).to_be_visible()
    tab.locator("summary").filter(has_text=re.compile(r"Model$")).click()
    expect(tab.get_by_text(RELEASED["digest"])).to_be_visible()


def test_a_part_of_a_chart_leads_to_its_rows(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results")
    chart = tab.get_by_test_id("stVegaLiteChart").first
    chart.hover()  # waits until it moves no more
    place = chart.bounding_box()
    assert place
    middle = place["y"] + place["height"] / 2
    tab.mouse.move(place["x"] + 0.6 * place["width"], middle)
    tab.mouse.down()
    tab.mouse.move(place["x"] + 0.9 * place["width"], middle, steps=5)
    tab.mouse.up()
    told = tab.get_by_text(re.compile(r"Below: rows that are \d+ % to \d+ % sure"))
    expect(told).to_be_visible()
    least, most = map(int, re.findall(r"(\d+) %", told.inner_text()))
    assert 30 < least < most < 100
    tab.mouse.move(place["x"] + 0.2 * place["width"], middle)
    tab.mouse.down()
    tab.mouse.move(place["x"] + 0.25 * place["width"], middle, steps=5)
    tab.mouse.up()
    expect(told).not_to_contain_text(f"{least} % to {most} %")


def test_an_image_of_a_bucket_is_shown_where_that_is_allowed(open_url: str, tab: Page) -> None:
    tab.goto(f"{open_url}/results?prefix=photos/astronaut&emotion=happiness")
    expect(tab.get_by_role("heading", name="Results")).to_be_visible()
    expect(tab.get_by_role("img", name="The image photos/astronaut.png")).to_be_visible()


def test_a_filter_that_fits_nothing_says_so(url: str, tab: Page) -> None:
    tab.goto(f"{url}/results?prefix=nowhere/")
    expect(tab.get_by_text("No row is like that")).to_be_visible()


def test_two_models_are_compared_side_by_side(url: str, tab: Page) -> None:
    tab.goto(f"{url}/compare")
    expect(tab.get_by_text("Scored by both")).to_be_visible()
    expect(tab.get_by_role("list", name="Emotions, says")).to_have_count(2)
    expect(tab.get_by_text("8.0").first).to_be_visible()
    frame = tab.frame_locator("iframe")
    expect(frame.get_by_text("Images that both scored")).to_be_visible()


def test_about_tells_the_model_its_limits_and_the_law(url: str, tab: Page) -> None:
    tab.goto(f"{url}/about")
    expect(tab.get_by_text("EU law (AI Act, Art. 5(1)(f)) forbids").first).to_be_visible()
    expect(tab.get_by_text(RELEASED["digest"])).to_be_visible()
    expect(tab.get_by_role("cell", name="contempt", exact=True)).to_be_visible()
    expect(tab.get_by_role("img", name="Learning curves")).to_be_visible()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[str]:
    """A page without model server and tables."""
    environment = {
        "MOODLAKE_SERVER_URL": "http://127.0.0.1:9",
        "MOODLAKE_RESULTS_URI": str(tmp_path / "lake"),
    }
    with PageService(tmp_path / "page", Ports.free().page, environment) as service:
        service.wait()
        yield service.url


def test_without_server_and_tables_each_page_says_what_to_do(
    alone: str, tab: Page, files: Path
) -> None:
    tab.goto(alone)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text("no answer from the model server")).to_be_visible()
    expect(tab.get_by_role("button", name="Try again")).to_be_visible()
    for place, words in {
        "runs": "No run has ended yet",
        "results": "Nothing was scored yet",
        "compare": "Nothing was scored yet",
        "about": "no answer from the model server",
    }.items():
        tab.goto(f"{alone}/{place}")
        expect(tab.get_by_text(words)).to_be_visible()


def test_tables_that_cannot_be_read_are_told(tab: Page, tmp_path: Path) -> None:
    environment = {
        "MOODLAKE_RESULTS_URI": "s3://nowhere",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    with PageService(tmp_path / "page", Ports.free().page, environment) as service:
        service.wait()
        tab.goto(f"{service.url}/results")
        told = tab.get_by_text("cannot be read")
        expect(told).to_be_visible(timeout=90_000)
        assert "[31m" not in (told.text_content() or "")
        assert "secret-of-nobody" not in tab.content()
