"""Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
"""Where it is; None where it is absent."""
MISSING = "chromium is absent: apt-get install chromium"


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """A browser until the end of the block.

    Playwright runs an event loop in this thread for as long.

    Args:
        options: for its command line.

    Raises:
        FileNotFoundError: it is not installed.
    """
    if CHROMIUM is None:
        raise FileNotFoundError(MISSING)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can have none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, *options])
        try:
            yield browser
        finally:
            browser.close()
