"""Debian's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""Path of the executable; None if it is not installed. The shell draws no windows of its own."""
MISSING = "Chromium is not installed; run apt-get install chromium-headless-shell"


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Run a browser until the end of the block.

    Playwright runs an event loop in this thread meanwhile.

    Args:
        options: command-line options of Chromium.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    if CHROMIUM is None:
        raise FileNotFoundError(MISSING)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # unavailable to root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, *options])
        try:
            yield browser
        finally:
            browser.close()
