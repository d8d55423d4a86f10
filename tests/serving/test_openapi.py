"""The running server and its OpenAPI document agree."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel

from infra.local.server import ModelServer
from moodlake.prediction import LANDMARKS, FacePrediction, ModelIdentity, Prediction
from moodlake.serving import schemas


@pytest.mark.parametrize(
    ("schema", "answered"),
    [
        (schemas.Model, ModelIdentity),
        (schemas.Prediction, Prediction),
        (schemas.Face, FacePrediction),
    ],
)
def test_schemas_require_every_field_of_an_answer(
    schema: type[BaseModel], answered: type[Any]
) -> None:
    required = {name for name, field in schema.model_fields.items() if field.is_required()}
    assert required - {"name"} == {field.name for field in fields(answered)} - {"name"}


def test_schemas_name_every_landmark() -> None:
    assert tuple(schemas.Landmarks.model_fields) == LANDMARKS


def test_the_document_is_openapi(server: ModelServer) -> None:
    validate(httpx.get(f"{server.gateway.url}/openapi.json").json())


def test_answers_agree_with_the_document(server: ModelServer, tmp_path: Path) -> None:
    """Schemathesis generates valid and invalid requests from it and checks the answers."""
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
