"""Uploads are private: no other user sees them, and no file holds them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from infra.stack import Stack
from tests.app.test_try import upload, wait_until_idle, written
from tests.images_made import astronaut, astronaut_image, encode

pytestmark = pytest.mark.e2e


def test_an_upload_is_never_written_to_disk(stack: Stack, url: str, tab: Page, files: Path) -> None:
    """Not even to an unnamed temporary file, as server libraries do."""
    assert stack.web_app
    page = psutil.Process(stack.web_app.children["page"].pid)
    large = encode(astronaut_image().resize((3000, 3000)), "PNG")
    assert len(large) > 4 * 2**20
    tab.goto(url)
    upload(tab, *written(files, small_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    wait_until_idle(tab)  # bytes sent to the browser count as written: let it send its assets first
    before = page.io_counters().write_chars
    upload(tab, *written(files, large_png=large))
    expect(tab.get_by_text("2 scored, 0 rejected")).to_be_visible()
    assert page.io_counters().write_chars - before < len(large) / 2


def test_cleared_uploads_are_gone_after_a_reload(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    tab.get_by_role("button", name="Clear all").click()
    expect(tab.get_by_role("list", name="Emotions")).not_to_be_visible()
    tab.reload()
    wait_until_idle(tab)
    assert tab.get_by_role("list", name="Emotions").count() == 0
    assert tab.get_by_text("astronaut.png").count() == 0


def test_users_do_not_see_each_others_uploads(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    assert tab.context.browser
    other = tab.context.browser.new_context().new_page()
    other.goto(url)
    wait_until_idle(other)
    assert other.get_by_role("list", name="Emotions").count() == 0
    assert other.url != tab.url
    other.context.close()


def test_secrets_never_reach_the_browser_or_the_log(
    stack: Stack, url: str, tab: Page, files: Path
) -> None:
    assert stack.web_app
    assert stack.web_app.url == url
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
    log = stack.web_app.children["page"].log.read_bytes()
    for secret in (token, *rest):
        assert secret not in everything
        assert secret not in log
