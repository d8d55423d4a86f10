"""Drawn faces with simulated annotators: a small, reproducible data set.

It replaces photographs, which cannot be redistributed. A model of it says nothing about people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from moodlake.emotions import label_space
from moodlake.prediction import FaceMode
from training.datasets.base import Annotated
from training.params import DataParams

SIZE = 48
_COUNTS = {"train": 640, "valid": 160}
_ANNOTATORS = 10
_AGREEMENT = 0.72
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Expression:
    """How an emotion is drawn; lengths are shares of the face's radius.

    Attributes:
        mouth_curve: rise of the mouth's corners; negative hangs.
        mouth_open: height of the open mouth.
        brow_slope: rise of the brows towards the nose; negative frowns.
        brow_lift: distance of the brows above their rest.
        eye_open: height of the eyes.
        skew: how far one corner of the mouth is raised over the other.
        confused_with: emotions that annotators mistake it for.
    """

    mouth_curve: float
    mouth_open: float
    brow_slope: float
    brow_lift: float
    eye_open: float
    skew: float
    confused_with: tuple[str, ...]


_EXPRESSIONS = {
    "neutral": Expression(0.0, 0.0, 0.0, 0.0, 0.11, 0.0, ("sadness", "contempt")),
    "happiness": Expression(0.28, 0.10, 0.0, 0.05, 0.09, 0.0, ("neutral", "surprise")),
    "surprise": Expression(0.0, 0.34, 0.0, 0.16, 0.19, 0.0, ("fear", "happiness")),
    "sadness": Expression(-0.22, 0.0, 0.14, 0.02, 0.08, 0.0, ("neutral", "fear")),
    "anger": Expression(-0.14, 0.05, -0.20, -0.06, 0.10, 0.0, ("disgust", "neutral")),
    "disgust": Expression(-0.20, 0.12, -0.12, -0.08, 0.05, 0.08, ("anger", "contempt")),
    "fear": Expression(-0.10, 0.20, 0.16, 0.13, 0.18, 0.0, ("surprise", "sadness")),
    "contempt": Expression(0.04, 0.0, -0.05, 0.0, 0.08, 0.16, ("neutral", "disgust")),
}


def load(params: DataParams) -> Annotated:
    """Draw the faces and simulate the votes; the seed determines both."""
    space = label_space("ferplus")
    rng = np.random.default_rng(params.seed)
    splits = [split for split, count in _COUNTS.items() for _ in range(count)]
    emotions = [space.emotions[index % len(space)] for index in range(len(splits))]
    faces = [draw_face(emotion, rng, SIZE).convert("L") for emotion in emotions]
    return Annotated(
        space,
        FaceMode.NONE,
        [f"drawn-{index:04d}-{emotion}" for index, emotion in enumerate(emotions)],
        [np.asarray(face) for face in faces],
        np.stack([_vote(emotion, rng) for emotion in emotions]),
        splits,
    )


def _vote(emotion: str, rng: np.random.Generator) -> np.ndarray:
    """Simulate votes (E,): mostly `emotion`, otherwise emotions it is confused with."""
    space = label_space("ferplus")
    chances = np.full(len(space), 0.02)
    for other in _EXPRESSIONS[emotion].confused_with:
        chances[space.index(other)] += (1 - _AGREEMENT) / 2
    chances[space.index(emotion)] += _AGREEMENT
    return rng.multinomial(_ANNOTATORS, chances / chances.sum())


def draw_face(emotion: str, rng: np.random.Generator, size: int) -> Image.Image:
    """Draw a face of `size` x `size` RGB pixels that shows `emotion` of the ferplus space."""
    expression = _EXPRESSIONS[emotion]
    side = size * _SUPERSAMPLING
    skin = np.array([224, 188, 160]) * rng.uniform(0.55, 1.08)
    background = rng.integers(40, 220, 3)
    image = Image.new("RGB", (side, side), tuple(int(value) for value in background))
    radius = side * rng.uniform(0.38, 0.46)
    center = np.array([side / 2, side / 2]) + rng.uniform(-0.03, 0.03, 2) * side
    draw = ImageDraw.Draw(image)
    _draw_head(draw, center, radius, skin)
    _draw_eyes(draw, center, radius, skin, _varied(expression, rng))
    _draw_mouth(draw, center, radius, skin, _varied(expression, rng))
    turned = image.rotate(
        rng.uniform(-9, 9), Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0))
    )
    small = turned.filter(ImageFilter.GaussianBlur(side / 160)).resize(
        (size, size), Image.Resampling.LANCZOS
    )
    noisy = np.asarray(small) + rng.normal(0, 4, (size, size, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _varied(expression: Expression, rng: np.random.Generator) -> Expression:
    """The same expression, shown more or less strongly."""
    strength = rng.uniform(0.75, 1.2)
    return Expression(
        expression.mouth_curve * strength,
        expression.mouth_open * strength,
        expression.brow_slope * strength,
        expression.brow_lift * strength,
        expression.eye_open * rng.uniform(0.9, 1.15),
        expression.skew * strength,
        expression.confused_with,
    )


def _shade(colour: np.ndarray, factor: float) -> tuple[int, ...]:
    return tuple(int(value) for value in np.clip(colour * factor, 0, 255))


def _ellipse(center: np.ndarray, dx: float, dy: float, width: float, height: float) -> list[float]:
    x, y = center[0] + dx, center[1] + dy
    return [x - width, y - height, x + width, y + height]


def _draw_head(
    draw: ImageDraw.ImageDraw, center: np.ndarray, radius: float, skin: np.ndarray
) -> None:
    hair = _shade(skin, 0.3)
    draw.ellipse(_ellipse(center, 0, -0.12 * radius, 0.92 * radius, 1.06 * radius), fill=hair)
    draw.ellipse(
        _ellipse(center, 0, 0.08 * radius, 0.82 * radius, 1.02 * radius), fill=_shade(skin, 1)
    )
    draw.polygon(
        [
            (center[0], center[1] - 0.05 * radius),
            (center[0] - 0.11 * radius, center[1] + 0.26 * radius),
            (center[0] + 0.11 * radius, center[1] + 0.26 * radius),
        ],
        fill=_shade(skin, 0.86),
    )


def _draw_eyes(
    draw: ImageDraw.ImageDraw,
    center: np.ndarray,
    radius: float,
    skin: np.ndarray,
    expression: Expression,
) -> None:
    for sign in (-1, 1):
        dx, dy = sign * 0.34 * radius, -0.16 * radius
        socket = _ellipse(center, dx, dy, 0.22 * radius, 0.18 * radius)
        draw.ellipse(socket, fill=_shade(skin, 0.78))
        height = expression.eye_open * radius
        draw.ellipse(_ellipse(center, dx, dy, 0.15 * radius, height), fill="white")
        pupil = min(0.075 * radius, height)
        draw.ellipse(_ellipse(center, dx, dy, pupil, pupil), fill=(25, 20, 20))
        inner, outer = 0.16 * radius, 0.52 * radius
        lift = center[1] - (0.38 + expression.brow_lift) * radius
        rise = expression.brow_slope * radius
        draw.line(
            [(center[0] + sign * inner, lift - rise), (center[0] + sign * outer, lift + rise / 2)],
            fill=_shade(skin, 0.25),
            width=max(2, round(0.08 * radius)),
        )


def _draw_mouth(
    draw: ImageDraw.ImageDraw,
    center: np.ndarray,
    radius: float,
    skin: np.ndarray,
    expression: Expression,
) -> None:
    lips, half_width, line = _shade(skin, 0.45), 0.36 * radius, max(2, round(0.06 * radius))
    steps = np.linspace(-1, 1, 15)
    bend = -expression.mouth_curve * radius * (steps**2 - 0.5)
    tilt = -expression.skew * radius * np.maximum(steps, 0)
    xs = center[0] + half_width * steps * (1 if expression.mouth_open < 0.3 else 0.55)
    middle = center[1] + 0.56 * radius + bend + tilt
    opening = expression.mouth_open * radius * np.sqrt(1 - steps**2) / 2
    upper, lower = (
        [(float(x), float(y)) for x, y in np.column_stack([xs, ys])]
        for ys in (middle - opening, middle + opening)
    )
    if expression.mouth_open:
        draw.polygon([*upper, *reversed(lower)], fill=_shade(skin, 0.18))
        draw.line(lower, fill=lips, width=line, joint="curve")
    draw.line(upper, fill=lips, width=line, joint="curve")
