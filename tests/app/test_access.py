"""Accessibility of the web app (axe, keyboard, dark mode), and access from other sites."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.test_try import upload, written
from tests.images_made import astronaut

pytestmark = pytest.mark.e2e

SHOWN = {
    "": "Of ten people asked",
    "runs": "Rows of this run",
    "results": "Mean distribution",
    "compare": "Most changed images",
    "data": "Excluded images and checks",
    "about": "What a score means",
}
IS_SHADE = """shade => {
    const app = document.querySelector("[data-testid=stApp]");
    if (!app) return false;
    const [red, green, blue, alpha = "1"] = getComputedStyle(app).backgroundColor.match(/[\\d.]+/g);
    const dark = red < 60 && green < 60 && blue < 60;
    return alpha === "1" && dark === (shade === "dark");
}"""


@pytest.mark.parametrize("name", list(SHOWN))
def test_axe_finds_no_violations(
    url: str, data_url: str, tab: Page, files: Path, name: str
) -> None:
    """Check the rules of WCAG 2.1, levels A and AA, that axe automates, in light and dark mode."""
    tab.goto(f"{data_url if name == 'data' else url}/{name}")
    if name == "":
        upload(tab, *written(files, astronaut_png=astronaut(), words_png=b"only words"))
    for shade in ("light", "dark"):
        tab.emulate_media(color_scheme=shade)
        tab.wait_for_function(IS_SHADE, arg=shade)
        expect(tab.get_by_text(SHOWN[name]).first).to_be_visible()
        expect(tab.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning"
        )
        assert violations(tab) == []


def violations(tab: Page) -> list[tuple[str, str, str]]:
    """Return rule, element and advice for each violation on the page."""
    # Vega draws the selection of a chart without a name, even an empty one.
    context = {"exclude": [["[class*=part_brush]"]]}
    levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
    found = Axe().run(tab, context, {"runOnly": levels, "resultTypes": ["violations"]})
    assert found.response["passes"]
    return [
        (item["id"], node["html"], node["failureSummary"])
        for item in found.response["violations"]
        for node in item["nodes"]
    ]


def test_dark_mode_follows_the_browser(url: str, tab: Page) -> None:
    tab.emulate_media(color_scheme="dark")
    tab.goto(f"{url}/results")
    expect(tab.get_by_role("list", name="Mean distribution")).to_be_visible()
    shades = "element => getComputedStyle(element).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    paper = tab.get_by_test_id("stApp").evaluate(shades.format("backgroundColor"))
    ink = tab.get_by_role("listitem").first.evaluate(shades.format("color"))
    assert max(paper) < 60
    assert min(ink) > 180


def test_every_page_is_reachable_by_keyboard(url: str, tab: Page) -> None:
    tab.goto(url)
    expect(tab.get_by_role("heading", name="Which emotion do people see?")).to_be_visible()
    for name in ("Runs", "Results", "Compare", "Data", "About"):
        link = tab.get_by_role("link", name=name, exact=True)
        link.focus()
        tab.keyboard.press("Enter")
        expect(tab).to_have_url(re.compile(f"^{url}/{name.lower()}"))
    expect(tab).to_have_url(f"{url}/about")  # without the session's id


def test_requests_with_another_host_name_are_rejected(url: str) -> None:
    """Otherwise a site could resolve its own name to 127.0.0.1 and read the web app (rebinding)."""
    socket = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": b64encode(bytes(16)).decode(),
    }
    answers = {
        host: httpx.get(f"{url}/_stcore/stream", headers={"Host": host, **socket}).status_code
        for host in ("127.0.0.1", "localhost", "evil.example")
    }
    assert answers == {"127.0.0.1": 101, "localhost": 101, "evil.example": 403}
