"""What becomes of what people lay into the page: nobody else sees it, and nothing keeps it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from infra.stack import Stack
from tests.app.test_try import at_rest, upload, written
from tests.images_made import astronaut, astronaut_image, encode

pytestmark = pytest.mark.e2e


def test_a_photo_is_on_no_disk(stack: Stack, url: str, tab: Page, files: Path) -> None:
    """Not even for a moment in a file without a name, as a server's library may do."""
    assert stack.page
    page = psutil.Process(stack.page.children["page"].pid)
    large = encode(astronaut_image().resize((3000, 3000)), "PNG")
    assert len(large) > 4 * 2**20
    tab.goto(url)
    upload(tab, *written(files, small_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    at_rest(tab)  # what it sends to the browser counts as well: its own parts have been sent
    before = page.io_counters().write_chars
    upload(tab, *written(files, large_png=large))
    expect(tab.get_by_text("2 scored, 0 rejected")).to_be_visible()
    assert page.io_counters().write_chars - before < len(large) / 2


def test_the_page_keeps_nothing_after_it_was_cleared(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    tab.get_by_role("button", name="Clear all").click()
    expect(tab.get_by_role("list", name="Emotions")).not_to_be_visible()
    tab.reload()
    at_rest(tab)
    assert tab.get_by_role("list", name="Emotions").count() == 0
    assert tab.get_by_text("astronaut.png").count() == 0


def test_nobody_sees_what_another_laid_there(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    assert tab.context.browser
    other = tab.context.browser.new_context().new_page()
    other.goto(url)
    at_rest(other)
    assert other.get_by_role("list", name="Emotions").count() == 0
    assert other.url != tab.url
    other.context.close()


def test_no_token_leaves_the_server(stack: Stack, url: str, tab: Page, files: Path) -> None:
    assert stack.page
    assert stack.page.url == url
    seen: list[bytes] = []
    tab.on(
        "websocket",
        lambda socket: socket.on(
            "framereceived",
            lambda data: seen.append(bytes(data) if isinstance(data, bytes) else data.encode()),
        ),
    )
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    secrets = [stack.gateway.token, *stack.s3.environment().values()]
    token, *rest = (secret.encode() for secret in secrets if len(secret) > 20)
    everything = b"".join(seen) + tab.content().encode()
    assert b"happiness" in everything
    log = stack.page.children["page"].log.read_bytes()
    for secret in (token, *rest):
        assert secret not in everything
        assert secret not in log
