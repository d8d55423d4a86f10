"""The page: Streamlit with the app in app/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from app.uploads import MAX_UPLOAD_MB
from infra.local.ports import HOST
from infra.local.service import NotReady, Service
from moodlake.settings import PROJECT_ROOT

_MAIN = PROJECT_ROOT / "app" / "main.py"


class PageService(Service):
    """The pages that people look at.

    Args:
        folder: its logs.
        port: where it listens.
        environment: what it needs to find the model server, S3 and the tables.
        host: the address it listens on.
    """

    name = "Page"

    def __init__(
        self, folder: Path, port: int, environment: Mapping[str, str], host: str = HOST
    ) -> None:
        super().__init__(folder)
        self.url = f"http://{host}:{port}"
        self._environment = dict(environment)
        self._options: dict[str, Any] = {
            "server.address": host,
            "server.port": port,
            "server.headless": "true",
            "server.fileWatcherType": "none",
            # Else a web site could let its own name lead here, and read along. By which names a
            # page is reached that listens elsewhere, nobody knows here.
            "server.allowedHosts": [host, "localhost"] if host == HOST else ["*"],
            "server.maxUploadSize": MAX_UPLOAD_MB,
            "browser.gatherUsageStats": "false",
            # Errors stay in the log: a stack of calls helps nobody who looks at a page.
            "client.showErrorDetails": "none",
            "client.toolbarMode": "minimal",
            "runner.magicEnabled": "false",
            # Of both, so that the browser's wish for light or dark is followed. Dark enough on
            # light ground that small and faded text is read (WCAG 1.4.3).
            "theme.light.primaryColor": "#3a6a99",
            "theme.light.textColor": "#111111",
            "theme.light.codeTextColor": "#111111",
            "theme.dark.primaryColor": "#6699cc",
            "theme.dark.codeTextColor": "#fafafa",
        }

    def start(self) -> None:
        options = [
            f"--{name}={value}"
            for name, given in self._options.items()
            for value in (given if isinstance(given, list) else [given])
        ]
        self.spawn("page", ["streamlit", "run", str(_MAIN), *options], self._environment)

    def check(self) -> str:
        """It answers."""
        try:
            answer = httpx.get(f"{self.url}/_stcore/health", timeout=5)
        except httpx.TransportError as error:
            raise NotReady(str(error)) from error
        if answer.status_code != 200:
            raise NotReady(f"it answers HTTP {answer.status_code}")
        return "it answers"
