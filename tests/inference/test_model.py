from __future__ import annotations

import contextlib
import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from infra.bench.bodies import as_form
from moodlake.inference import model as model_module
from moodlake.inference.bundle import BundleError, digest_of
from moodlake.inference.model import Model, OutOfTime, ProbeFailed
from moodlake.prediction import FaceMode, Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.serving import answers
from moodlake.serving.explanations import explain_request
from moodlake.serving.options import BadRequest, Options
from moodlake.serving.requests import ServerRequest, Upload, parse_request
from moodlake.settings import PROJECT_ROOT
from moodlake.timings import Timings
from tests.bundles import write_archive, write_bundle
from tests.images_made import astronaut, astronaut_image, encode, jpeg, png_bomb


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_archive(tmp_path_factory.mktemp("model") / "emotions.mar"))


def test_a_bad_image_affects_no_other(model: Model) -> None:
    batch = [jpeg(1), b"", jpeg(2), b"text", png_bomb(), jpeg(3)]
    reasons = [prediction.reason for prediction in model.score(batch)]
    expected = [None, Reason.EMPTY, None, Reason.NOT_AN_IMAGE, Reason.TOO_MANY_PIXELS, None]
    assert reasons == expected


def test_distributions_sum_to_one(model: Model) -> None:
    inputs = np.random.default_rng(0).normal(0, 30, (50, 1, 16, 16)).astype(np.float32)
    distributions = model.predict(inputs)
    assert distributions.shape == (50, 8)
    assert distributions.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_an_image_without_face_has_no_distribution(model: Model) -> None:
    prediction = model.score([jpeg()], faces=FaceMode.LARGEST)[0]
    assert prediction.reason is Reason.NO_FACE
    assert prediction.distribution is None
    assert (prediction.width, prediction.height) == (64, 48)


@pytest.mark.parametrize("mode", [FaceMode.LARGEST, FaceMode.ALL])
def test_a_face_is_found_and_scored(model: Model, mode: FaceMode) -> None:
    prediction = model.score([astronaut()], faces=mode)[0]
    face = prediction.faces[0]
    assert face.distribution == prediction.distribution
    assert face.left < 225 < face.left + face.width
    assert face.top < 115 < face.top + face.height
    assert face.landmarks["right_eye"] == pytest.approx((203, 101), abs=6)


def test_a_prediction_survives_json(model: Model) -> None:
    prediction = model.score([astronaut()], faces=FaceMode.ALL)[0]
    assert prediction.faces
    assert Prediction.from_dict(json.loads(json.dumps(prediction.to_dict()))) == prediction


def test_the_released_model_agrees_with_people_on_portraits() -> None:
    released = Model.load(PROJECT_ROOT / "model_store" / "emotions.mar")
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    read = released.score([astronaut(), hopper.read_bytes()], faces=FaceMode.LARGEST)
    assert [prediction.dominant for prediction in read] == ["happiness", "neutral"]


@pytest.mark.slow
def test_a_prediction_does_not_depend_on_the_batch() -> None:
    released = Model.load(PROJECT_ROOT / "model_store" / "emotions.mar")
    photo = astronaut_image()
    images = [
        encode(photo.rotate(number % 9 - 4).resize((200 + 5 * number, 300)), "JPEG")
        for number in range(63)
    ]
    images.insert(20, b"no image")
    for faces in (FaceMode.NONE, FaceMode.LARGEST):
        together = released.score(images, faces=faces)
        assert [each.status for each in together].count("scored") == 63
        for image, among in zip(images, together, strict=True):
            alone = released.score([image], faces=faces)[0]
            assert (among.distribution is None) == (alone.distribution is None)
            assert among.distribution is None or among.distribution == pytest.approx(
                alone.distribution, abs=1e-5
            )


def test_exceeding_the_time_limit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(write_bundle(tmp_path))
    with pytest.raises(OutOfTime, match="scoring 1 of 3 images"):
        model.score([jpeg()] * 3, seconds=0)
    assert model.score([jpeg()], seconds=0)[0].dominant  # one is never left undone
    request = parse_request(*reversed(as_form([jpeg()] * 3)))
    monkeypatch.setattr(answers, "MAX_SECONDS", 0)
    with pytest.raises(BadRequest, match="send fewer at a time") as caught:
        answers.answer(model, request, Timings())
    assert caught.value.status == 413


def test_many_faces_are_scored_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.load(write_bundle(tmp_path))
    images = [jpeg(number) for number in range(9)]
    at_once = model.score(images)
    monkeypatch.setattr(model_module, "_CHUNK", 2)
    assert model.score(images) == at_once


@pytest.mark.parametrize("data", [b"no image", jpeg()[:-99], png_bomb()])
def test_a_rejected_image_is_freed(model: Model, data: bytes) -> None:
    """It does not even wait for the garbage collector, which does not count bytes."""
    data = bytes(bytearray(data))
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(data)
        assert model.score([data])[0].reason
        assert sys.getrefcount(data) == before
        request = ServerRequest((Upload("0", data),), Options())
        before = sys.getrefcount(data)
        for _ in range(3):
            with contextlib.suppress(BadRequest):
                explain_request(model, request)
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()


@pytest.mark.slow
def test_threads_predict_the_same(model: Model) -> None:
    photo = astronaut_image()
    images = [
        encode(photo.rotate(angle, fillcolor="grey").resize((side, side)), "JPEG")
        for angle in range(-20, 21, 4)
        for side in (200, 300, 450)
    ]
    alone = model.score(images, faces=FaceMode.ALL)
    assert any(prediction.faces for prediction in alone)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: model.score(images, faces=FaceMode.ALL), range(4)):
            assert together == alone


def test_the_digest_covers_everything_that_affects_predictions(tmp_path: Path) -> None:
    meta = json.loads((write_bundle(tmp_path) / "model.json").read_text())
    changes = {
        "temperature": 2.0,
        "faces": "all",
        "preprocessing": {**meta["preprocessing"], "mean": 0.4},
        "label_space": {"name": "ferplus", "emotions": meta["label_space"]["emotions"][::-1]},
        "files": {**meta["files"], "model.bin": "0" * 64},
    }
    digests = {digest_of({**meta, name: value}) for name, value in changes.items()}
    assert len(digests | {meta["digest"]}) == len(changes) + 1


def test_a_changed_bundle_is_an_error(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    weights = bundle / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(BundleError, match=r"model\.bin"):
        Model.load(bundle)


def test_other_files_are_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.mar does not exist"):
        Model.load(tmp_path / "absent.mar")
    (tmp_path / "photo.mar").write_bytes(b"no archive")
    with pytest.raises(BundleError, match="not a model archive"):
        Model.load(tmp_path / "photo.mar")


@pytest.mark.parametrize("content", ["{}", "[]", "not json"])
def test_a_bundle_with_an_invalid_description_is_an_error(tmp_path: Path, content: str) -> None:
    bundle = write_bundle(tmp_path)
    (bundle / "model.json").write_text(content)
    with pytest.raises(BundleError, match=r"model\.json"):
        Model.load(bundle)


def test_a_heat_map_is_high_where_the_emotion_is(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "model"))
    found = [model.explain(jpeg(), emotion) for emotion in model.space.emotions]
    assert [each.emotion for each in found] == list(model.space.emotions)
    side = model.preprocessing.size
    assert {(each.heat.shape, each.crop.shape) for each in found} == {
        ((side, side), (1, side, side))
    }
    assert {float(each.heat.min()) for each in found} == {0}
    # What speaks for one emotion speaks against another.
    assert {float(each.heat.max()) for each in found} == {0, 1}
    assert model.explain(jpeg()).emotion == model.score([jpeg()])[0].dominant


def test_threads_explain_the_same(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "model"), streams=2)
    asked = [(jpeg(number), emotion) for number in range(4) for emotion in model.space.emotions]
    alone = [model.explain(*each).heat for each in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: model.explain(*each).heat, asked))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_models_without_feature_maps_have_no_heat_maps(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "model"))
    with pytest.raises(ValueError, match="'rage' is not in ferplus"):
        model.explain(jpeg(), "rage")
    with pytest.raises(Rejected, match="not_an_image"):
        model.explain(b"no image")
    plain = Model.load(write_bundle(tmp_path / "plain", explainable=False))
    with pytest.raises(ValueError, match="no feature maps"):
        plain.explain(jpeg())


def test_the_probe_fails_if_the_answer_differs_from_the_packed_one(
    tmp_path: Path,
) -> None:
    folder = write_bundle(tmp_path / "model")
    assert Model.load(folder).probe().dominant
    meta = json.loads((folder / "model.json").read_text())
    probabilities = meta["probe"]["distribution"]
    first, *_, last = probabilities
    probabilities[first], probabilities[last] = probabilities[last], probabilities[first] + 0.1
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(ProbeFailed, match="when it was packed"):
        Model.load(folder).probe()
