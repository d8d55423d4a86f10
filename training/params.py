"""params.yaml as checked, frozen objects."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from moodlake.errors import UserError

PARAMS_FILE = Path("params.yaml")
RUNS_SECTION = "scoring"
"""Not of the training: moodlake/scoring/run/policy.py reads it."""
OTHER = "other"
"""The recipe of every data set that has none of its own."""

_WEIGHTS_SUFFIXES = (".safetensors", ".mar")
_Count = Annotated[int, Field(ge=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_InnerShare = Annotated[float, Field(gt=0, lt=1)]
_ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]


class ParamsError(UserError, ValueError):
    """A parameter that is unknown, missing or out of range; the message says where and what."""


class _Section:
    __pydantic_config__ = ConfigDict(
        extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
    )


@dataclass(frozen=True)
class DataParams(_Section):
    """Which data set; see training/datasets.

    Attributes:
        name: of the adapter.
        path: of its files; null for what is made here.
        label_space: where the data set leaves a choice.
        faces: what of a new image a model of a folder or table reads: none, largest or all.
        drop_neutral: Emotion6 without neutral, the rest scaled to sum to 1.
        valid_share: of the rows, for data sets without a split of their own.
        limit: rows at most, drawn from each split and emotion alike; null for all.
        seed: of drawn faces and of made splits.
    """

    name: str
    path: str | None = None
    label_space: str | None = None
    faces: str = "largest"
    drop_neutral: bool = False
    valid_share: _InnerShare = 0.15
    limit: _Count | None = None
    seed: int = 20


@dataclass(frozen=True)
class ModelParams(_Section):
    """Which network; see training/architectures. Null stands for the architecture's own value.

    Attributes:
        architecture: a name, or names joined by "+" for an ensemble.
        size: pixels of the square input.
        channels: 1 (grey) or 3 (RGB).
        dropout: share of features dropped before the head.
        weights: null for pretrained ones where the architecture has them, "none" for fresh ones,
            or a file of an earlier training: a weights.safetensors or a .mar.
    """

    architecture: str
    size: Annotated[int, Field(ge=16, le=1024)] | None
    channels: Literal[1, 3] | None
    dropout: _ShareBelowOne | None
    weights: str | None

    def __post_init__(self) -> None:
        if self.weights_file and self.weights_file.suffix not in _WEIGHTS_SUFFIXES:
            raise ParamsError(
                f"model.weights is {self.weights!r}; it must be null, none, or a file that ends in "
                f"{' or '.join(_WEIGHTS_SUFFIXES)}"
            )

    @property
    def weights_file(self) -> Path | None:
        """The file of an earlier training to start from."""
        return Path(self.weights) if self.weights not in (None, "none") else None


@dataclass(frozen=True)
class TrainParams(_Section):
    """The recipe; see training/learning/optimize.py. Null stands for the architecture's own value.

    Attributes:
        epochs: passes over the training split; 0 takes the weights as they are.
        batch_size, seed: as ever.
        loss: see training.learning.optimize.Loss.
        class_balance: of hard_cross_entropy's classes; 0 counts each row alike, 1 each class.
        teachers: archives of models to learn from as well; see training/learning/teachers.py.
        teacher_share: of the target that is theirs.
        optimizer: sgd or adamw.
        learning_rate: of the head, at its highest.
        weight_decay: of matrices and kernels.
        schedule: one_cycle or cosine.
        warm_up: share of the steps.
        trainable: how many of the last stages learn; 1 is the head, null the architecture's own
            choice: all, but for some that start from pretrained weights.
        layer_decay: learning rate of a stage as a share of the next one's.
        ema_decay: of the average of the weights, for one step.
        mixup: alpha of mixup's beta distribution (Zhang et al., ICLR 2018); 0 is off.
        patience: epochs without a better validation KL before training stops; 0 is off.
    """

    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    loss: Literal["kl", "cross_entropy", "hard_cross_entropy", "label_drawing"]
    class_balance: _Share
    teachers: list[str]
    teacher_share: _Share
    optimizer: Literal["sgd", "adamw"] | None
    learning_rate: _Positive | None
    weight_decay: _NotNegative | None
    schedule: Literal["one_cycle", "cosine"]
    warm_up: _InnerShare
    trainable: _Count | None
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    ema_decay: _ShareBelowOne
    mixup: _NotNegative
    patience: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]

    def __post_init__(self) -> None:
        if self.teachers and self.loss == "hard_cross_entropy":
            raise ParamsError(
                "train: teachers teach distributions, and hard_cross_entropy learns from the "
                "majority alone; choose another loss, or no teachers"
            )


@dataclass(frozen=True)
class AugmentParams(_Section):
    """The largest random change of each kind; see training/learning/augment.py."""

    flip: bool
    rotation: Annotated[float, Field(ge=0, le=math.pi)]
    scale: _ShareBelowOne
    shift: _Share
    brightness: _Share
    contrast: _Share
    erase: _Share


@dataclass(frozen=True)
class CalibrateParams(_Section):
    """How probabilities are made to mean what they say; see training/stages/calibrate.py."""

    method: Literal["none", "temperature", "vector"]


@dataclass(frozen=True)
class ArchiveParams(_Section):
    """How the model is called where it is served, and how its weights are kept."""

    name: str
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$")]  # part of an address
    precision: Literal["fp32", "fp16"]
    int8: bool


@dataclass(frozen=True)
class Params(_Section):
    """All sections; `train` is the recipe of the chosen data set."""

    data: DataParams
    model: ModelParams
    train: TrainParams
    augment: AugmentParams
    calibrate: CalibrateParams
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
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    try:
        name, recipes = content["data"]["name"], content["train"]
        recipe = name if name in recipes else OTHER
        values = {**content, "train": recipes[recipe]}
        values.pop(RUNS_SECTION, None)
    except (KeyError, TypeError) as error:
        raise ParamsError(f"{path}: data.name or the recipes of train are missing") from error
    try:
        return TypeAdapter(Params).validate_python(values)
    except ValidationError as error:
        told = [_told(problem, recipe) for problem in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(told)}") from error


def _told(problem: Any, recipe: str) -> str:
    """One of pydantic's errors, in words."""
    if cause := problem.get("ctx", {}).get("error"):  # raised by a section itself
        return str(cause)
    section, *keys = map(str, problem["loc"])
    name = ".".join((section, *([recipe] if section == "train" else []), *keys))
    if problem["type"] in ("missing", "unexpected_keyword_argument"):
        return f"{name} is {'missing' if problem['type'] == 'missing' else 'unknown'}"
    return f"{name} is {problem['input']!r}: {problem['msg']}"
