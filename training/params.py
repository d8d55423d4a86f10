"""params.yaml as checked, frozen objects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

PARAMS_FILE = Path("params.yaml")
_T = TypeVar("_T")


class ParamsError(ValueError):
    """A parameter that is unknown, missing or out of range; the message says where and what."""


@dataclass(frozen=True)
class DataParams:
    """Which data set; see training/datasets."""

    name: str
    path: str | None
    seed: int


@dataclass(frozen=True)
class ModelParams:
    """Which network; see training/architectures."""

    architecture: str
    size: int
    channels: int
    dropout: float


@dataclass(frozen=True)
class TrainParams:
    """One-cycle SGD with Nesterov momentum and an average of the weights."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0:
            raise ParamsError(
                "train: epochs >= 1, batch_size >= 2 and learning_rate > 0 are needed, "
                f"not {self.epochs}, {self.batch_size}, {self.learning_rate}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ParamsError(f"train: ema_decay is {self.ema_decay}; it must be in [0, 1)")


@dataclass(frozen=True)
class AugmentParams:
    """The largest random change of each kind; see training/augment.py."""

    flip: bool
    rotation: float
    scale: float
    shift: float
    brightness: float
    contrast: float
    erase: float


@dataclass(frozen=True)
class ArchiveParams:
    """How the model is called where it is served."""

    name: str
    version: str


@dataclass(frozen=True)
class Params:
    """All sections; `train` is the recipe of the chosen data set."""

    data: DataParams
    model: ModelParams
    train: TrainParams
    augment: AugmentParams
    archive: ArchiveParams

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check `path`.

    Raises:
        ParamsError: naming the file, the key and what to do.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ParamsError(
            f"{path} cannot be read ({error}); run from the project's folder"
        ) from error
    try:
        data = _section(DataParams, content["data"], "data")
        recipes = content["train"]
        if data.name not in recipes:
            known = ", ".join(recipes)
            raise ParamsError(f"train has no recipe for data.name={data.name!r}, only for {known}")
        return Params(
            data,
            _section(ModelParams, content["model"], "model"),
            _section(TrainParams, recipes[data.name], f"train.{data.name}"),
            _section(AugmentParams, content["augment"], "augment"),
            _section(ArchiveParams, content["archive"], "archive"),
        )
    except KeyError as error:
        raise ParamsError(f"{path}: section {error} is missing") from error
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error


def _section(kind: type[_T], values: dict[str, Any], name: str) -> _T:
    expected = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - expected:
        raise ParamsError(f"{name}: unknown {sorted(unknown)}; known: {sorted(expected)}")
    if missing := expected - set(values):
        raise ParamsError(f"{name}: {sorted(missing)} missing")
    return kind(**values)
