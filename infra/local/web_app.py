"""The web app as a service: Streamlit running app/main.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from app.upload_source import MAX_UPLOAD_MB
from infra.local.ports import HOST
from infra.local.service import NotReady, Service
from moodlake.settings import PROJECT_ROOT

_MAIN = PROJECT_ROOT / "app" / "main.py"


class WebAppService(Service):
    """The web app.

    Args:
        folder: for its logs.
        port: to listen on.
        environment: variables that locate the model server, S3 and the tables.
        host: the bind address.
    """

    name = "Web app"

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
            # Prevents DNS rebinding: a site that resolves its own name to this address could
            # read the web app. With another bind address, the valid host names are unknown here.
            "server.allowedHosts": [host, "localhost"] if host == HOST else ["*"],
            "server.maxUploadSize": MAX_UPLOAD_MB,
            "browser.gatherUsageStats": "false",
            # Tracebacks go to the log only.
            "client.showErrorDetails": "none",
            "client.toolbarMode": "minimal",
            "runner.magicEnabled": "false",
            # Both themes, so that the app follows the browser's preference. The light theme's
            # text is dark enough for the contrast of small and faded text (WCAG 1.4.3).
            "theme.light.primaryColor": "#3a6a99",
            "theme.light.textColor": "#111111",
            "theme.light.codeTextColor": "#111111",
            "theme.dark.primaryColor": "#6699cc",
            "theme.dark.codeTextColor": "#fafafa",
        }

    def start(self) -> None:
        options = [
            f"--{name}={value}"
            for name, option in self._options.items()
            for value in (option if isinstance(option, list) else [option])
        ]
        self.spawn("page", ["streamlit", "run", str(_MAIN), *options], self._environment)

    def check(self) -> str:
        """Request the health endpoint."""
        try:
            response = httpx.get(f"{self.url}/_stcore/health", timeout=5)
        except httpx.TransportError as error:
            raise NotReady(str(error)) from error
        if response.status_code != 200:
            raise NotReady(f"the health check returned HTTP {response.status_code}")
        return "healthy"
