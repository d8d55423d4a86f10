"""Draw learning curves, confusion, reliability and a scatter for each emotion as one figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.paths import CURVES_FOLDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY = 500
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#999999"
"""Colours of Okabe and Ito's palette, which colour-blind people can distinguish."""


def draw_curves(axes: Axes, curves: pd.DataFrame) -> None:
    """Draw training loss (of augmented images) and validation KL by epoch."""
    for name, label, colour, mark in (
        ("train_loss", "training loss", _BLUE, "o"),
        ("valid_kl", "validation KL", _ORANGE, "s"),
    ):
        if name in curves:  # no training, no loss
            axes.plot(curves.index, curves[name], color=colour, marker=mark, label=label)
    axes.set(title="last training run", xlabel="epoch", ylabel="nats", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def draw_confusion(axes: Axes, confusion: pd.DataFrame) -> None:
    """Draw the confusion matrix as row shares; `confusion` is counts (E, E), a row an actual."""
    shares = confusion.div(confusion.sum(axis=1).clip(lower=1), axis=0).to_numpy()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        ink = "white" if shares[row, column] > 0.5 else "black"
        percent = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, percent, ha="center", va="center", color=ink, fontsize=8)
    places = range(len(confusion))
    axes.set_xticks(places, confusion.columns, rotation=45, ha="right")
    axes.set_yticks(places, confusion.index)
    axes.set(title="% of majority label", xlabel="predicted emotion", ylabel="majority of people")


def draw_reliability(axes: Axes, bins: pd.DataFrame) -> None:
    """Draw agreement of people with the model by its confidence; bars are shares of images."""
    axes.bar(bins["confidence"], bins["share"], width=0.05, color=_GREY, alpha=0.4, label="images")
    axes.plot((0, 1), (0, 1), color=_GREY, linestyle=":")
    for name, colour, mark in (("annotators", _BLUE, "o"), ("majority", _ORANGE, "s")):
        axes.plot(bins["confidence"], bins[name], color=colour, marker=mark, label=name)
    axes.set(
        title="reliability",
        xlabel="confidence of the model",
        ylabel="share that agrees",
        xlim=(0, 1),
    )
    axes.set_ylim(0, 1)
    axes.legend()


def draw_scatter(axes: Axes, emotion: str, pairs: pd.DataFrame) -> None:
    """Draw the predicted probability of one emotion against its share of votes."""
    varies = pairs["people"].nunique() > 1 and pairs["model"].nunique() > 1
    r = f", r = {pairs['people'].corr(pairs['model']):.2f}" if varies else ""
    size, alpha = (3, 0.25) if len(pairs) > _MANY else (12, 0.5)
    axes.scatter(
        pairs["people"], pairs["model"], s=size, alpha=alpha, color=_BLUE, linewidths=0, zorder=3
    )
    span = (-0.04, 1.04)  # room for points on the edge, as of single labels
    axes.set(title=f"{emotion}{r}", xlabel="people", xlim=span, ylim=span, aspect="equal")


def draw(
    curves: pd.DataFrame, confusion: pd.DataFrame, bins: pd.DataFrame, pairs: pd.DataFrame
) -> Figure:
    """Draw curves, confusion and reliability above, and a scatter for each emotion below."""
    emotions = list(confusion.index)
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(5, 2.5), squeeze=False)[:, 0]
    left, middle, right = halves[0].subplots(1, 3)
    draw_curves(left, curves)
    draw_confusion(middle, confusion)
    draw_reliability(right, bins)
    panels = halves[1].subplots(1, len(emotions), sharey=True, squeeze=False)[0]
    for axes, emotion in zip(panels, emotions, strict=True):
        draw_scatter(axes, emotion, pairs[pairs["emotion"] == emotion])
    panels[0].set_ylabel("the model")
    return figure


def read_curves(folder: Path = CURVES_FOLDER) -> pd.DataFrame:
    """Read DVCLive's curves: a column each, by epoch; epoch 0 is before training."""
    files = (folder / "plots" / "metrics").glob("*.tsv")
    curves = pd.concat([pd.read_csv(file, sep="\t", index_col="step") for file in files], axis=1)
    return curves.set_index("epoch").sort_index()
