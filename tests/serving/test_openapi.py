"""The server does what its OpenAPI document says, and the document says what the server does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
from openapi_spec_validator import validate

from infra.local.server import ModelServer


def test_the_document_is_openapi(server: ModelServer) -> None:
    validate(httpx.get(f"{server.gateway.url}/openapi.json").json())


def test_the_document_is_true(server: ModelServer, tmp_path: Path) -> None:
    """Schemathesis makes good and bad requests of it, and holds the answers against it."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(schemathesis, "--config-file", Path(__file__).with_name("schemathesis.toml")),
            *("run", f"{server.gateway.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {server.token}"),
            *("--max-examples", "60", "--seed", "1", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
