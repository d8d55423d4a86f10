"""The pictures of the page in the docs: python -m infra.pictures makes them anew.

Takes Debian's Chromium, and half a minute more than the demo, whose photos they show.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from infra.browser import chromium
from infra.demo import photos, run_demo
from infra.local.page import PageService
from infra.local.ports import Ports
from infra.stack import Stack
from moodlake.settings import PROJECT_ROOT

_DOCS = PROJECT_ROOT / "docs"
_SIZE = {"width": 1160, "height": 900}


def take(url: str, folder: Path) -> None:
    """Photograph each page that is worth showing."""
    with chromium() as browser:
        _try_it(_tab(browser, url), folder)
        _results(_tab(browser, f"{url}/results"))
        _runs(_tab(browser, f"{url}/runs"))


def _tab(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
    page.goto(address)
    return page


def _try_it(page: Page, folder: Path) -> None:
    files = []
    for name, data in sorted(photos().items(), key=lambda item: "hopper" not in item[0]):
        files.append(folder / name.rsplit("/", 1)[-1])
        files[-1].write_bytes(data)
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("list", name="Emotions").wait_for()
    photograph(page, _DOCS / "look-try.png")


def _results(page: Page) -> None:
    page.get_by_role("list", name="Emotions on average").wait_for()
    photograph(page, _DOCS / "look-results.png")


def _runs(page: Page) -> None:
    page.frame_locator("iframe").get_by_text("Images a second").wait_for()
    photograph(page, _DOCS / "look-runs.png")


def photograph(page: Page, path: Path) -> None:
    """All of the page, however high it is."""
    page.wait_for_timeout(1500)  # charts are drawn when their text is there already
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    assert page.viewport_size
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.wait_for_timeout(500)
    page.screenshot(path=path)


def main() -> None:
    """Start everything, let the demo score its photos, and take the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with Stack(folder / "stack", Ports.free()) as stack:
            run_demo(stack, folder, print)
            environment = stack.environment() | {"MOODLAKE_SHOW_IMAGES": "true"}
            with PageService(folder / "page", stack.ports.page, environment) as page:
                page.wait()
                take(page.url, folder)


if __name__ == "__main__":
    main()
