"""Take the docs' screenshots of the web app: python -m infra.pictures.

Needs Debian's Chromium. Takes half a minute longer than the demo, whose photos it shows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from infra.browser import chromium
from infra.demo import photos, run_demo
from infra.local.ports import Ports
from infra.local.web_app import WebAppService
from infra.stack import Stack
from moodlake.settings import PROJECT_ROOT

_DOCS = PROJECT_ROOT / "docs"
_SIZE = {"width": 1160, "height": 900}
_IS_DRAWN = """() => {
    const app = document.querySelector("[data-testid=stApp]");
    const charts = [...document.querySelectorAll("[data-testid=stVegaLiteChart]")];
    const drawn = chart => chart.querySelector("canvas, svg");
    return app?.dataset.testScriptState === "notRunning" && charts.every(drawn);
}"""
_NEXT_FRAMES = """() => new Promise(
    done => requestAnimationFrame(() => requestAnimationFrame(done))
)"""


def take(url: str, folder: Path) -> None:
    """Take screenshots of the pages Try, Results and Runs."""
    with chromium() as browser:
        _try(_tab(browser, url), folder)
        _results(_tab(browser, f"{url}/results"))
        _runs(_tab(browser, f"{url}/runs"))


def _tab(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
    page.goto(address)
    return page


def _try(page: Page, folder: Path) -> None:
    files = []
    for name, data in sorted(photos().items(), key=lambda item: "hopper" not in item[0]):
        files.append(folder / name.rsplit("/", 1)[-1])
        files[-1].write_bytes(data)
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("list", name="Emotions").wait_for()
    screenshot(page, _DOCS / "look-try.png")


def _results(page: Page) -> None:
    page.get_by_role("list", name="Mean distribution").wait_for()
    screenshot(page, _DOCS / "look-results.png")


def _runs(page: Page) -> None:
    page.frame_locator("iframe").get_by_role("heading").first.wait_for()
    screenshot(page, _DOCS / "look-runs.png")


def wait_until_drawn(page: Page) -> None:
    """Wait until the page has run to its end and all its charts are drawn."""
    page.wait_for_function(_IS_DRAWN)


def screenshot(page: Page, path: Path) -> None:
    """Take a screenshot of the page in its full height, once it is drawn completely."""
    wait_until_drawn(page)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    assert page.viewport_size
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.evaluate(_NEXT_FRAMES)
    page.screenshot(path=path)


def main() -> None:
    """Start a stack, score the demo's photos and take the screenshots."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with Stack(folder / "stack", Ports.free()) as stack:
            run_demo(stack, folder, print)
            environment = stack.environment() | {"MOODLAKE_SHOW_IMAGES": "true"}
            with WebAppService(folder / "page", stack.ports.page, environment) as page:
                page.wait()
                take(page.url, folder)


if __name__ == "__main__":
    main()
