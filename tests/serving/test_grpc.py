"""Predictions over gRPC: the same port, the same token, the same answers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_tools import protoc

from infra.local.server import ModelServer
from moodlake.prediction import Prediction
from moodlake.settings import PROJECT_ROOT
from tests.images_made import jpeg
from tests.serving.test_server import in_process


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Python modules generated from infra/grpc/inference.proto, as docs/serve.md describes."""
    folder = tmp_path_factory.mktemp("stubs")
    source: Path = PROJECT_ROOT / "infra" / "grpc"
    options = [f"-I{source}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *options, "inference.proto"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        names = ("inference_pb2", "inference_pb2_grpc")
        messages, services = (importlib.import_module(name) for name in names)
    return messages, services


def ask(server: ModelServer, stubs: tuple[Any, Any], token: str, **images: bytes) -> Any:
    messages, services = stubs
    with grpc.insecure_channel(f"127.0.0.1:{server.ports.gateway}") as channel:
        service = services.InferenceAPIsServiceStub(channel)
        request = messages.PredictionsRequest(model_name="emotions", input=images)
        metadata = [("authorization", f"Bearer {token}")]
        answer = service.Predictions(request, metadata=metadata, timeout=60)
    return json.loads(answer.prediction)


def test_images_by_name(server: ModelServer, stubs: tuple[Any, Any]) -> None:
    answer = ask(server, stubs, server.token, one=jpeg(1), two=b"no image", faces=b"none")
    found = {item["name"]: Prediction.from_dict(item) for item in answer["predictions"]}
    assert found == dict(
        zip(("one", "two"), in_process(server, [jpeg(1), b"no image"]), strict=True)
    )


def test_a_wrong_token_is_rejected(server: ModelServer, stubs: tuple[Any, Any]) -> None:
    with pytest.raises(grpc.RpcError) as error:
        ask(server, stubs, "guess", one=jpeg())
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_invalid_option_is_an_error(server: ModelServer, stubs: tuple[Any, Any]) -> None:
    """The answer holds the error: TorchServe's gRPC has one status for a whole batch."""
    answer = ask(server, stubs, server.token, one=jpeg(), faces=b"both")
    assert (answer["code"], "'none', 'largest' or 'all'" in answer["message"]) == (422, True)
