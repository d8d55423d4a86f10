"""Explain a prediction of the trained network with a heat map.

`python -m training.tools.explain IMAGE` writes IMAGE's crop beside a heat map: Grad-CAM for
convolutional networks (Selvaraju et al., ICCV 2017, with captum), attention rollout for
transformers (Abnar and Zuidema, ACL 2020). `--what features` shows the feature maps of each stage
instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from moodlake.emotions import LabelSpace
from moodlake.errors import UserError
from moodlake.inference.decoding import decode
from moodlake.inference.faces import crop, find_faces
from moodlake.inference.preprocessing import Preprocessing
from moodlake.prediction import FaceMode
from moodlake.reasons import Rejected
from training.architectures import preprocessing_of, stages
from training.architectures.inside import feature_maps, first_member, has_attention, last_grid
from training.data_set.facts import read_facts
from training.evaluation.calibration import Calibration
from training.learning.network import load_network
from training.params import load_params
from training.stage import stage

_MAPS = 8
_OPACITY = 0.5


def grad_cam(network: nn.Module, layer: nn.Module, inputs: Tensor, emotion: int) -> Tensor:
    """Grad-CAM of one image.

    Args:
        network: in eval mode.
        layer: a stage whose output is (1, C, h, w).
        inputs: (1, channels, size, size), preprocessed.
        emotion: index of the logit to explain.

    Returns:
        (size, size), 0 to 1: evidence for the emotion at each place.
    """
    found = LayerGradCam(network, layer).attribute(inputs, target=emotion, relu_attributions=True)
    return _unit(LayerAttribution.interpolate(found, inputs.shape[-2:], "bilinear")[0, 0].detach())


def attention_rollout(network: nn.Module, inputs: Tensor) -> Tensor:
    """Compute how much of each patch reaches the class token through all layers.

    Args:
        network: a vision transformer whose first token is the class token.
        inputs: (1, channels, size, size), preprocessed.

    Returns:
        (size, size), 0 to 1.
    """
    with _recorded_attention(network) as layers, torch.inference_mode():
        network(inputs)
    tokens = layers[0].shape[-1]
    flow = torch.eye(tokens)
    for attention in layers:
        mixed = (attention + torch.eye(tokens)) / 2  # the shortcut around the attention
        flow = mixed @ flow
    side = int((tokens - 1) ** 0.5)
    patches = flow[0, 1:].reshape(1, 1, side, side)
    return _unit(nn.functional.interpolate(patches, inputs.shape[-2:], mode="bilinear")[0, 0])


@contextmanager
def _recorded_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record the attention (tokens, tokens) of each layer, averaged over heads, during a run."""
    layers: list[Tensor] = []

    def ask(module: nn.Module, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**options, "need_weights": True, "average_attn_weights": True}

    def keep(module: nn.Module, inputs: Any, outputs: tuple[Tensor, Tensor]) -> None:
        layers.append(outputs[1][0])

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            hooks.append(module.register_forward_pre_hook(ask, with_kwargs=True))
            hooks.append(module.register_forward_hook(keep))
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def heat_map(network: nn.Module, architecture: str, inputs: Tensor, emotion: int) -> Tensor:
    """Return a heat map (size, size), 0 to 1; of an ensemble, that of its first member."""
    member = first_member(network)
    if has_attention(member):
        return attention_rollout(member, inputs)
    layer = last_grid(member, stages(network, architecture)[0], inputs)
    return grad_cam(member, layer, inputs, emotion)


def read_crop(
    data: bytes, faces: FaceMode, preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Tensor]:
    """Return the crop that the model reads: pixels (h, w, 3), inputs (1, channels, size, size).

    Without a face, the whole image is used, with a warning.

    Raises:
        Rejected: it is no image.
    """
    image = decode(data, short_side=preprocessing.decoded_side)
    pixels = image.pixels
    if faces is not FaceMode.NONE:
        found = find_faces(pixels, image.scale)
        if found:
            pixels = crop(pixels, found[0], image.scale)
        else:
            print(
                "no face found; using the whole image, which scoring would reject", file=sys.stderr
            )
    return pixels, torch.from_numpy(preprocessing(pixels))[None]


def draw_heat(
    out: Path,
    pixels: NDArray[np.uint8],
    heat: Tensor,
    title: str,
    ranked: Sequence[tuple[str, float]],
) -> None:
    """Draw the crop, the heat map over it, and the distribution as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    crop_axes, heat_axes, bars = figure.subplots(1, 3)
    height, width = pixels.shape[:2]
    crop_axes.imshow(pixels)
    heat_axes.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    for axes in (crop_axes, heat_axes):
        axes.axis("off")
    heat_axes.imshow(
        heat.numpy(), cmap="viridis", alpha=_OPACITY, extent=(0, width, height, 0), vmin=0, vmax=1
    )
    heat_axes.set_title(f"{title} (yellow: most)")
    names = [name for name, _ in ranked]
    drawn = bars.barh(names[::-1], [value for _, value in ranked][::-1])
    bars.bar_label(drawn, fmt="{:.0%}", padding=3)
    bars.set_xlim(0, 1.15)
    bars.set_title(f"dominant emotion: {names[0]}")
    figure.savefig(out, dpi=110)


def draw_features(out: Path, maps: Sequence[Tensor]) -> None:
    """Draw the strongest channels of each stage, a row for each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_MAPS, len(maps)), layout="constrained")
    grid = figure.subplots(len(maps), _MAPS, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for row, features in zip(grid, maps, strict=True):
        strongest = features.mean((1, 2)).argsort(descending=True)[:_MAPS]
        for axes, channel in zip(row, strongest, strict=False):
            axes.imshow(features[channel].numpy(), cmap="viridis")
        row[0].set_title(" x ".join(map(str, features.shape)), fontsize=7, loc="left")
    figure.savefig(out, dpi=110)


def _unit(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-9)


def _ranked(distribution: NDArray[np.float64], space: LabelSpace) -> list[tuple[str, float]]:
    pairs = zip(space.emotions, distribution.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


@stage("explain")
def main(arguments: Sequence[str] | None = None) -> None:
    """Explain one image with the weights that `dvc repro` trained."""
    parser = argparse.ArgumentParser(description="Explain the prediction for an image.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=Path("explained.png"))
    parser.add_argument("--what", choices=("heat", "features"), default="heat")
    parser.add_argument("--emotion", help="emotion to explain; default: the most probable")
    chosen = parser.parse_args(arguments)
    try:
        params, facts = load_params(), read_facts()
        network = load_network(params, len(facts.space))
        calibration = Calibration.read()
    except OSError as error:
        raise UserError(
            f"cannot read the trained network: {error}; run `dvc repro` first"
        ) from error
    if not chosen.out.parent.is_dir():
        raise UserError(
            f"folder {chosen.out.parent} does not exist; create it, or name another with --out"
        )
    preprocessing = preprocessing_of(params.model)
    try:
        pixels, inputs = read_crop(chosen.image.read_bytes(), facts.faces, preprocessing)
        with torch.inference_mode():
            ranked = _ranked(calibration(network(inputs).numpy())[0], facts.space)
        emotion = facts.space.index(chosen.emotion or ranked[0][0])
    except OSError as error:
        raise UserError(f"{chosen.image}: {error.strerror}; check the path") from error
    except (Rejected, ValueError) as error:
        raise UserError(f"{chosen.image}: {error}") from error
    if chosen.what == "heat":
        heat = heat_map(network, params.model.architecture, inputs, emotion)
        of_one = not has_attention(first_member(network))
        title = f"evidence for {facts.space.emotions[emotion]}" if of_one else "attention"
        draw_heat(chosen.out, pixels, heat, title, ranked)
    else:
        parts = stages(network, params.model.architecture)[0]
        draw_features(chosen.out, feature_maps(network, parts, inputs))
    print(f"{chosen.out}: {', '.join(f'{name} {value:.0%}' for name, value in ranked[:3])}")


if __name__ == "__main__":
    main()
