"""Every architecture by name: shapes, stages, freezing, weights."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import openvino
import pytest
import safetensors.torch
import torch

from moodlake.inference.openvino_config import on_cores
from moodlake.settings import PROJECT_ROOT
from training.architectures import (
    ARCHITECTURES,
    build,
    mobilenet_faces,
    origin,
    preprocessing_of,
    settle_norms,
    stages,
)
from training.architectures.base import WeightsError, settle, stages_at
from training.architectures.ensemble import Ensemble
from training.learning.optimize import freeze, make_optimizer
from training.packaging.bundle import to_openvino
from training.params import ModelParams, ParamsError, load_params

PARAMS = load_params(PROJECT_ROOT / "params.yaml")


def named(name: str, **changes: object) -> ModelParams:
    values = {"architecture": name, "weights": "none", **changes}
    return replace(PARAMS.model, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*ARCHITECTURES, "compact+fer_cnn"])
def test_an_architecture_works_as_it_was_designed(name: str) -> None:
    params = named(name)
    network = build(params, 5).eval()
    preprocessing = preprocessing_of(params)
    pixels = torch.rand(2, preprocessing.channels, preprocessing.size, preprocessing.size)
    with torch.inference_mode():
        assert network(pixels).shape == (2, 5)
        served = openvino.compile_model(to_openvino(network, preprocessing), "CPU", on_cores(1))
        for count in (1, 2):
            logits = served(pixels[:count].numpy())[0]
            assert logits == pytest.approx(network(pixels[:count]).numpy(), abs=1e-3)
    staged = [part for parts in stages(network, name) for part in parts]
    covered = {value for part in staged for value in part.parameters()}
    rest = {key for key, value in network.named_parameters() if value not in covered}
    assert all("token" in key or "embedding" in key for key in rest)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "mobilenet_v3_small"])
def test_size_channels_and_classes_are_parameters(name: str) -> None:
    network = build(named(name, size=64, channels=1), 3).eval()
    assert network(torch.rand(1, 1, 64, 64)).shape == (1, 3)


def test_the_origin_of_the_weights_is_described() -> None:
    assert origin(named("compact", weights=None)) == "random weights"
    assert origin(named("resnet18")) == "random weights"
    assert origin(named("resnet18+compact", weights=None)) == "ImageNet"
    assert origin(named("vgg16+mobilenet_faces", weights=None)).startswith("ImageNet and VGGFace2")


def test_an_ensemble_predicts_the_mean_distribution() -> None:
    network = build(named("compact+fer_cnn"), 4).eval()
    pixels = torch.rand(3, 1, 48, 48)
    each = torch.stack([member(pixels).softmax(1) for member in network.get_submodule("members")])
    assert torch.allclose(network(pixels).softmax(1), each.mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vit_scratch", "resemotenet"])
def test_frozen_stages_do_not_learn(name: str) -> None:
    network = build(named(name, size=48), 3)
    frozen = freeze(network, named(name), 1)
    head = stages(network, name)[0][-1]
    learning = {value for value in network.parameters() if value.requires_grad}
    assert learning == set(head.parameters())
    assert len(frozen) == len(stages(network, name)[0]) - 1
    optimizer = make_optimizer(network, named(name), PARAMS.train)
    assert {value for group in optimizer.param_groups for value in group["params"]} == learning


def test_modules_without_parameters_are_no_stages() -> None:
    network = torch.nn.Module()
    layers = (torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Conv2d(2, 2, 3))
    network.features, network.head = torch.nn.Sequential(*layers), torch.nn.Linear(2, 3)
    assert list(stages_at("features.*", "head")(network)) == [layers[0], layers[2], network.head]


def test_the_architecture_decides_which_stages_learn_unless_overridden() -> None:
    name = "mobilenet_faces"
    count = len(list(build(named(name), 3).parameters()))
    for params, trainable, all_learn in [
        (named(name), None, True),
        (named(name, weights=None), None, False),
        (named(name, weights=None), 99, True),
    ]:
        network = build(params, 3, pretrained=False)
        freeze(network, params, trainable)
        learning = sum(value.requires_grad for value in network.parameters())
        assert (learning == count) is all_learn
        assert learning > 0


def test_earlier_stages_learn_more_slowly() -> None:
    name = "resnet18"
    network = build(named(name), 3)
    recipe = replace(PARAMS.train, learning_rate=1.0, layer_decay=0.5)
    optimizer = make_optimizer(network, named(name), recipe)
    rates = {value: group["lr"] for group in optimizer.param_groups for value in group["params"]}
    parts = stages(network, name)[0]
    assert [rates[next(part.parameters())] for part in parts] == [
        0.5**depth for depth in reversed(range(len(parts)))
    ]
    assert len(rates) == len(list(network.parameters()))


def test_settled_norms_have_statistics_of_their_inputs_and_the_output_stays() -> None:
    network = build(named("fer_cnn+resnet18"), 3)
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        for value in (norm.weight, norm.running_var):
            torch.nn.init.uniform_(value, 0.5, 2)
    pixels = torch.rand(16, 1, 48, 48)
    before = network.eval()(pixels)
    settle(network.train(), pixels)
    assert network.training
    assert torch.allclose(network.eval()(pixels), before, atol=1e-4)
    reached: dict[str, torch.Tensor] = {}
    first = norms[0].register_forward_pre_hook(lambda _, inputs: reached.update(first=inputs[0]))
    network(pixels)
    first.remove()
    assert torch.allclose(norms[0].running_mean, reached["first"].mean((0, 2, 3)), atol=1e-5)


def published_faceres(folder: Path) -> dict[str, np.ndarray]:
    """Write random weights in the form of the published ones; returns them by name."""
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024]
    shapes = {"conv1/convolution/merged_input": (3, 3, 3, 32), "conv1_bn/batchnorm_1/sub": (32,)}
    for number, (before, after) in enumerate(pairwise(widths), 1):
        shapes |= {
            f"conv_dw_{number}/depthwise_kernel": (3, 3, before, 1),
            f"conv_dw_{number}_bn/batchnorm_1/mul": (before,),
            f"conv_dw_{number}_bn/batchnorm_1/sub": (before,),
            f"conv_pw_{number}/convolution/merged_input": (1, 1, before, after),
            f"conv_pw_{number}_bn/batchnorm_1/sub": (after,),
        }
    chance = np.random.default_rng(0)
    tensors = {name: chance.normal(size=shape).astype("<f2") for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    (folder / "faceres.bin").write_bytes(b"".join(value.tobytes() for value in tensors.values()))
    listed = [{"name": name, "shape": shape, "dtype": "float32"} for name, shape in shapes.items()]
    manifest = {"weightsManifest": [{"weights": listed}]}
    (folder / "faceres.json").write_text(json.dumps(manifest), "utf-8")
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def test_weights_learned_from_faces_are_read_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = named("mobilenet_faces", weights=None)
    with pytest.raises(WeightsError, match=r"data/README.md.* model\.weights=none"):
        build(wanted, 3)
    tensors = published_faceres(mobilenet_faces.WEIGHTS_FOLDER)
    with pytest.raises(WeightsError, match=r"faceres.json is damaged"):
        build(wanted, 3)
    digests = {
        name: hashlib.sha256((mobilenet_faces.WEIGHTS_FOLDER / name).read_bytes()).hexdigest()
        for name in ("faceres.json", "faceres.bin")
    }
    monkeypatch.setattr(mobilenet_faces, "_SHA256", digests)
    network = build(wanted, 3)
    pixels = np.random.default_rng(1).uniform(0, 1, (3, 3, 3)).astype(np.float32)
    row = np.tensordot(pixels, tensors["conv1/convolution/merged_input"], 3)
    stem = build(replace(wanted, channels=3), 3).get_parameter("conv_stem.weight")
    rgb = torch.from_numpy(pixels[:, :, ::-1].copy()).permute(2, 0, 1)
    assert (stem * rgb).sum((1, 2, 3)).tolist() == pytest.approx(row * 255 * 0.25, rel=1e-4)
    grey = network.get_parameter("conv_stem.weight")
    assert torch.allclose(grey, stem.sum(1, keepdim=True), rtol=1e-4)
    depthwise = network.get_parameter("blocks.3.5.conv_dw.weight")[7, 0, 2, 1].item()
    kernel, scale = tensors["conv_dw_11/depthwise_kernel"], tensors["conv_dw_11_bn/batchnorm_1/mul"]
    assert depthwise == pytest.approx(kernel[2, 1, 7, 0] * scale[7])
    pointwise = network.get_parameter("blocks.4.0.conv_pw.weight")[900, 3, 0, 0].item()
    assert pointwise == tensors["conv_pw_12/convolution/merged_input"][0, 0, 3, 900]
    both = named("compact+mobilenet_faces", weights=None, size=112)
    ensemble, given = build(both, 3), torch.rand(4, 1, 112, 112)
    settle_norms(ensemble, both, given)
    norm, reached = ensemble.get_submodule("members.1.bn1"), list[torch.Tensor]()
    norm.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))
    ensemble.eval()(given)
    assert torch.allclose(norm.running_mean, reached[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".safetensors", ".mar"])
def test_weights_of_an_earlier_training_are_loaded_except_a_head_for_other_emotions(
    tmp_path: Path, suffix: str
) -> None:
    earlier, file = build(named("fer_cnn+compact"), 8), tmp_path / f"weights{suffix}"
    content = safetensors.torch.save(earlier.state_dict())
    if suffix == ".mar":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("weights.safetensors", content)
            space = {"emotions": [f"emotion {number}" for number in range(8)]}
            provenance = {"data_name": "drawn", "data_digest": "that"}
            meta = {"label_space": space, "provenance": provenance}
            archive.writestr("model.json", json.dumps(meta))
    else:
        file.write_bytes(content)
    later = build(named("fer_cnn+compact", weights=str(file)), 3)
    heads = {
        id(value) for parts in stages(later, "fer_cnn+compact") for value in parts[-1].parameters()
    }
    for name, value in later.named_parameters():
        before = earlier.get_parameter(name)
        if id(value) in heads:
            assert value.shape[0] == 3 or torch.equal(value, before)
        else:
            assert torch.equal(value, before)
    assert file.name in origin(named("compact", weights=str(file)))
    assert "VGGFace2" in origin(named("mobilenet_faces", weights=str(file)))
    again = build(named("fer_cnn+compact", weights=str(file)), 8)
    pixels = torch.rand(2, 1, 48, 48)
    assert torch.equal(again.eval()(pixels), earlier.eval()(pixels))
    for wrong, why in [
        ({"architecture": "compact"}, "another architecture"),
        ({"channels": 3}, "other channels"),
        ({"weights": str(tmp_path / "none.mar")}, "No such file"),
    ]:
        with pytest.raises(WeightsError, match=why):
            build(named("fer_cnn+compact", **{"weights": str(file), **wrong}), 8)
    file.write_bytes(b"torn" * 5)
    with pytest.raises(WeightsError, match="holds no weights"):
        build(named("fer_cnn+compact", weights=str(file)), 8)
    with pytest.raises(ParamsError, match=r"imagenet.*\.mar"):
        named("compact", weights="imagenet")


def test_pretrained_weights_are_loaded() -> None:
    fresh, tuned = (
        build(named("efficientnet_lite0", weights=weights), 3) for weights in ("none", None)
    )
    first = "blocks.0.0.conv_dw.weight"
    assert not torch.equal(fresh.get_parameter(first), tuned.get_parameter(first))
    again = build(named("efficientnet_lite0", weights=None), 3)
    assert torch.equal(again.get_parameter(first), tuned.get_parameter(first))


def test_unavailable_weights_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"model\.weights=none"):
        build(named("resnet18", weights=None), 3)


def test_a_size_that_pretrained_attention_does_not_support_is_reported() -> None:
    with pytest.raises(WeightsError, match="of 224 pixels, not 96"):
        build(named("vit_b_16", weights=None, size=96), 3)


@pytest.mark.parametrize(("name", "size"), [("vit_scratch", 50), ("convnext_tiny", 16)])
def test_a_size_that_a_network_does_not_support_is_reported(name: str, size: int) -> None:
    with pytest.raises(ParamsError, match=rf"model\.size={size} does not suit {name}"):
        build(named(name, weights="none", size=size), 3)


def test_members_of_an_ensemble_learn_as_they_would_alone() -> None:
    model = named("efficientnet_lite0+mobilenet_faces", weights="none", size=32)
    network = build(model, 3).eval()
    assert isinstance(network, Ensemble)
    pixels = torch.rand(2, 1, 32, 32)
    given = (pixels - 0.449) / 0.226
    own = (pixels - 0.4502) / 0.25
    assert torch.allclose(network.each(given)[1], network.members[1](own), atol=1e-4)
    certain = torch.nn.Parameter(torch.tensor([0.0, 500.0, 0.0]))
    for member in network.members:
        member.get_submodule("classifier").bias = certain
    assert torch.isfinite(network(given)).all()
    mixed = named("compact+efficientnet_lite0", weights="none", size=32)
    network, recipe = build(mixed, 3), replace(PARAMS.train, optimizer=None)
    with pytest.raises(ParamsError, match=r"different default optimizers \(adamw, sgd\)"):
        make_optimizer(network, mixed, recipe)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ParamsError, match="'resnet9000' is not one of: compact"):
        build(named("compact+resnet9000"), 8)
