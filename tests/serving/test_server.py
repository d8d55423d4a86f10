"""The model server's HTTP API: TorchServe behind nginx, with a tiny real model."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import httpx
import numpy as np
import pytest

from infra.local.server import ModelServer
from moodlake.inference.decoding import decode
from moodlake.inference.model import Model
from moodlake.prediction import FaceMode, Prediction
from moodlake.reasons import Reason
from moodlake.serving.client import AsyncServerClient, ServerClient, ServerError
from moodlake.settings import PROJECT_ROOT
from tests.images_made import astronaut, jpeg, png_bomb
from tests.polling import until

PATH = "/predictions/emotions"
BAD = {"empty": b"", "text": b"hello", "bomb": png_bomb(), "cut": jpeg(1)[:200]}
IMAGES = [jpeg(0), b"no image", jpeg(2, 300, 200), b"", png_bomb()]


def in_process(server: ModelServer, images: list[bytes], **options: Any) -> list[Prediction]:
    return Model.load(server.archive).score(images, **options)


def predictions(answer: httpx.Response) -> list[Prediction]:
    assert answer.status_code == 200, answer.text
    return [Prediction.from_dict(item) for item in answer.json()["predictions"]]


def test_one_image_as_the_body_whatever_its_type(server: ModelServer) -> None:
    with server.http() as http:
        for kind in ("image/jpeg", "application/x-www-form-urlencoded", "text/plain", None):
            headers = {"Content-Type": kind} if kind else {}
            answer = http.post(PATH, content=jpeg(), headers=headers)
            assert predictions(answer) == in_process(server, [jpeg()])


def test_many_images_as_parts_keep_order_and_names(server: ModelServer) -> None:
    with server.http() as http:
        answer = http.post(PATH, files=[(f"{i}.jpg", data) for i, data in enumerate(IMAGES)])
    assert [item["name"] for item in answer.json()["predictions"]] == [
        f"{index}.jpg" for index in range(len(IMAGES))
    ]
    assert predictions(answer) == in_process(server, IMAGES)


def test_parts_of_one_name_are_all_answered(server: ModelServer) -> None:
    with server.http() as http:
        answer = http.post(PATH, files=[("image", jpeg(0)), ("image", jpeg(1))])
    assert [item["name"] for item in answer.json()["predictions"]] == ["image", "image"]
    assert predictions(answer) == in_process(server, [jpeg(0), jpeg(1)])


def test_json_with_base64(server: ModelServer) -> None:
    text = base64.b64encode(jpeg()).decode()
    instances = [
        {"b64": text},
        {"key": "kserve", "image_bytes": {"b64": text}},
        {"content": text},
        text,
        {"b64": "%%%"},
        {"weight": 3},
    ]
    body = {"instances": instances, "parameters": {"faces": "none", "top_k": 2, "timings": True}}
    with server.http() as http:
        answer = http.post(PATH, json=body)
    found = predictions(answer)
    assert found[:4] == in_process(server, [jpeg()]) * 4
    assert [item.reason for item in found[4:]] == [Reason.NOT_AN_IMAGE] * 2
    assert answer.json()["predictions"][1]["name"] == "kserve"
    assert set(answer.json()["timings"]) == {*("decode_ms", "detect_ms", "infer_ms", "explain_ms")}


def test_options_in_the_query_and_as_fields_are_the_same(server: ModelServer) -> None:
    query = {"top_k": "2", "label_space": "mood3"}
    with server.http() as http:
        by_query = http.post(PATH, params=query, files={"one": jpeg()})
        by_field = http.post(PATH, files={"one": jpeg()}, data=query)
    assert by_query.json() == by_field.json()
    found = by_query.json()["predictions"][0]
    assert set(found["distribution"]) == {"happy", "sad", "angry"}
    assert sum(found["distribution"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 < found["label_space_share"] < 1
    assert [item["emotion"] for item in found["top"]] == sorted(
        found["distribution"], key=found["distribution"].get, reverse=True
    )[:2]


def test_faces_are_chosen_by_request(server: ModelServer) -> None:
    with server.http() as http:
        for mode in FaceMode:
            answer = http.post(PATH, params={"faces": mode}, content=astronaut())
            assert predictions(answer) == in_process(server, [astronaut()], faces=mode)
        answer = http.post(PATH, params={"faces": "largest"}, content=jpeg())
    assert answer.status_code == 200
    assert predictions(answer)[0].reason is Reason.NO_FACE
    assert predictions(answer)[0].distribution is None


def test_a_bad_image_is_rejected_alone(server: ModelServer) -> None:
    with server.http() as http:
        answer = http.post(PATH, files=[*BAD.items(), ("good", jpeg())])
    assert [item.reason for item in predictions(answer)] == [
        Reason.EMPTY,
        Reason.NOT_AN_IMAGE,
        Reason.TOO_MANY_PIXELS,
        Reason.TRUNCATED,
        None,
    ]


@pytest.mark.parametrize("count", [1, 8])
def test_a_prediction_does_not_depend_on_its_neighbours(server: ModelServer, count: int) -> None:
    with server.http() as http:
        files = [(str(index), jpeg(index)) for index in range(count)]
        assert predictions(http.post(PATH, files=files))[0] == in_process(server, [jpeg(0)])[0]


def test_both_clients_answer_as_the_model_in_process(server: ModelServer) -> None:
    async def ask() -> list[list[Prediction]]:
        async with AsyncServerClient(server.gateway.url, server.gateway.keys) as client:
            return await asyncio.gather(*(client.score(IMAGES) for _ in range(8)))

    expected = in_process(server, IMAGES)
    client = ServerClient(server.gateway.url, server.gateway.keys)
    assert client.score(IMAGES) == expected
    assert client.identity == Model.load(server.archive).identity
    client.close()
    assert asyncio.run(ask()) == [expected] * 8


def test_an_explanation_is_a_picture_or_an_array(server: ModelServer) -> None:
    path = "/explanations/emotions"
    model = Model.load(server.archive)
    with server.http() as http:
        picture = http.post(path, content=jpeg())
        array = http.post(path, params={"image": "array", "emotion": "fear"}, content=jpeg())
        unknown = http.post(path, params={"emotion": "rage"}, content=jpeg())
        bad = http.post(path, content=b"no image")
        two = http.post(path, files=[("a", jpeg()), ("b", jpeg())])
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
    assert decode(picture.content).format == "PNG"
    assert array.json()["emotion"] == "fear"
    assert np.allclose(array.json()["heat"], model.explain(jpeg(), "fear").heat, atol=1e-4)
    client = ServerClient(server.gateway.url, server.gateway.keys)
    assert client.explain(jpeg(), faces=FaceMode.NONE) == picture.content
    assert client.explain(jpeg(), "fear") != picture.content
    for image, emotion, words in ((jpeg(), "rage", "not in ferplus"), (b"x", None, "not_an_image")):
        with pytest.raises(ServerError, match=words):
            client.explain(image, emotion)
    assert (unknown.status_code, "not in ferplus" in unknown.text) == (422, True)
    assert (bad.status_code, "not_an_image" in bad.text) == (422, True)
    assert two.status_code == 422


def test_predictions_can_hold_explanations(server: ModelServer) -> None:
    model, files = Model.load(server.archive), [("a", jpeg(1)), ("b", b"no image"), ("c", jpeg(2))]
    with server.http() as http:
        answer = http.post(PATH, params={"explain": "true", "emotion": "fear"}, files=files)
        unknown = http.post(PATH, params={"explain": "true", "emotion": "rage"}, files=files)
        many = http.post(PATH, params={"explain": "true"}, files=files * 6)
    first, bad, last = (item["explanation"] for item in answer.json()["predictions"])
    assert bad is None
    for found, image in ((first, jpeg(1)), (last, jpeg(2))):
        assert found["emotion"] == "fear"
        assert np.allclose(found["heat"], model.explain(image, "fear").heat, atol=1e-4)
    assert (unknown.status_code, "not in ferplus" in unknown.text) == (422, True)
    assert (many.status_code, "at most 16 images" in many.text) == (413, True)


def test_ready_returns_the_digest_without_a_token(server: ModelServer) -> None:
    answer = httpx.get(f"{server.gateway.url}/ready")
    digest = Model.load(server.archive).identity.digest
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "digest": digest})


def test_clients_cannot_probe(server: ModelServer) -> None:
    with server.http() as http:
        answer = http.post(PATH, content=jpeg(), headers={"X-Moodlake-Probe": "0" * 64})
    assert predictions(answer) == in_process(server, [jpeg()])


def test_metrics_count_requests_and_images(server: ModelServer) -> None:
    def read() -> dict[str, float]:
        lines = httpx.get(f"http://127.0.0.1:{server.ports.metrics}/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def counted(metrics: dict[str, float], *words: str) -> float:
        return sum(value for name, value in metrics.items() if all(word in name for word in words))

    before = read()
    with server.http() as http:
        http.post(PATH, files=[*BAD.items(), ("good", jpeg())])
    last = "moodlake_infer_seconds_count"  # the worker emits it after the others
    until(lambda: counted(read(), last) > counted(before, last), "no metric was emitted")
    after = read()
    for words, more in [
        (("moodlake_requests_total", 'images="005-016"'), 1),
        (("moodlake_images_total", "rejected"), 4),
        (("moodlake_images_total", "scored"), 1),
        (("moodlake_dominant_total",), 1),
        (("moodlake_infer_seconds_count",), 1),
    ]:
        assert counted(after, *words) - counted(before, *words) == more, words
    assert counted(after, "moodlake_entropy") > counted(before, "moodlake_entropy")


def test_the_dashboard_queries_existing_metrics(server: ModelServer) -> None:
    dashboard = json.loads((PROJECT_ROOT / "infra" / "grafana" / "server.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"(?:moodlake_|Requests|Queue)\w+", target["expr"])
    }
    with server.http() as http:
        http.post(PATH, files=[*BAD.items(), ("good", jpeg())])
        http.post(PATH, content=jpeg(), params={"faces": "both"})
    # TorchServe lists a metric from its first value on, which some have only after a failure.
    declared = (PROJECT_ROOT / "model_store" / "metrics.yaml").read_text()
    expected = {name for name in asked if f"name: {name}\n" not in declared}

    def are_listed() -> bool:
        metrics = httpx.get(f"http://127.0.0.1:{server.ports.metrics}/metrics").text
        return all(re.search(rf"^{name}[{{ ]", metrics, re.MULTILINE) for name in expected)

    # Workers emit metrics independently of their answers.
    until(are_listed, f"TorchServe does not list all of {sorted(expected)}")


def test_names_are_valid_json(server: ModelServer) -> None:
    with server.http() as http:
        answer = http.post(PATH, files=[("naïve 😀.jpg", jpeg()), ('a"b\\', jpeg())])
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.content)["predictions"][0]["name"] == "naïve 😀.jpg"
