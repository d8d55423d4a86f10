"""Read params.yaml into checked, frozen dataclasses."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from moodlake.errors import UserError

PARAMS_FILE = Path("params.yaml")

_BY_DATA_SET = "by_data_set"
"""Section of `train` with values for single data sets."""
_OTHER = "other"
"""Section of `by_data_set` that every data set inherits from."""
_POLICY_SECTION = "scoring"
"""Section that older files hold; moodlake.scoring.run.policy reads a file for it."""

_WEIGHTS_SUFFIXES = (".safetensors", ".mar")
_Count = Annotated[int, Field(ge=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_InnerShare = Annotated[float, Field(gt=0, lt=1)]
_ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]


class ParamsError(UserError, ValueError):
    """A parameter is unknown, missing or out of range; the message names it."""


class _Section:
    __pydantic_config__ = ConfigDict(
        extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
    )


@dataclass(frozen=True)
class DataParams(_Section):
    """The data set; see training/datasets.

    Attributes:
        name: of the adapter.
        path: of the data set's files; null for generated data.
        label_space: for data sets that support several.
        faces: face mode of a model trained on a folder or table: none, largest or all.
        drop_neutral: drop neutral from Emotion6 and rescale the rest to sum to 1.
        valid_share: share of rows to hold out, for data sets without a split.
        limit: maximum number of rows, sampled from each split and emotion in proportion; null
            for all.
        seed: of generated faces and random splits.
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
    """The network; see training/architectures. Null stands for the architecture's default.

    Attributes:
        architecture: a name, or names joined by "+" for an ensemble.
        size: side of the square input, in pixels.
        channels: 1 (grey) or 3 (RGB).
        dropout: share of features dropped before the head.
        weights: null for pretrained ones where the architecture has them, "none" for fresh ones,
            or a file of an earlier training: a .safetensors or a .mar.
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
        """The file of an earlier training to start from, if any."""
        return Path(self.weights) if self.weights not in (None, "none") else None


@dataclass(frozen=True)
class TrainParams(_Section):
    """The recipe; see training/learning/optimize.py. Null stands for the architecture's default.

    Attributes:
        epochs: passes over the training split; 0 keeps the initial weights.
        batch_size: rows in a batch.
        loss: see training.learning.optimize.Loss.
        class_balance: hard_cross_entropy only: 0 weighs every row alike, 1 every class alike.
        teachers: archives of models to distil from; see training/learning/teachers.py.
        teacher_share: the teachers' share of the target.
        optimizer: sgd or adamw.
        learning_rate: peak learning rate of the head.
        weight_decay: of matrices and kernels; biases and norms have none.
        schedule: one_cycle or cosine.
        warm_up: share of the steps.
        trainable: number of last stages to train; 1 is the head; null trains all stages, except
            for some architectures that start from pretrained weights.
        layer_decay: learning rate of a stage relative to the next one.
        ema_decay: decay per step of the moving average of the weights.
        mixup: alpha of mixup's beta distribution (Zhang et al., ICLR 2018); 0 is off.
        patience: epochs without a better validation KL before training stops; 0 is off.
        seed: of initial weights, batches and augmentation.
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
                "train.teachers need a loss over distributions, but train.loss is "
                "hard_cross_entropy; choose another loss, or no teachers"
            )


@dataclass(frozen=True)
class AugmentParams(_Section):
    """The largest random change of each kind; see training/learning/augment.py for units."""

    flip: bool
    rotation: Annotated[float, Field(ge=0, le=math.pi)]
    scale: _ShareBelowOne
    shift: _Share
    brightness: _Share
    contrast: _Share
    erase: _Share


@dataclass(frozen=True)
class CalibrateParams(_Section):
    """The calibration method; see training/evaluation/calibration.py."""

    method: Literal["none", "temperature", "vector"]


@dataclass(frozen=True)
class ArchiveParams(_Section):
    """Name and version of the served model, and precision of its stored weights."""

    name: str
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$")]  # part of a URL
    precision: Literal["fp32", "fp16"]
    int8: bool


@dataclass(frozen=True)
class Params(_Section):
    """All sections; `train` is the effective recipe for the chosen data set."""

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
        ParamsError: naming the file, the parameter and the problem.
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
        name, train = content["data"]["name"], content["train"]
        recipe, inherited = _recipe(train, name)
    except (AttributeError, KeyError, TypeError) as error:
        raise ParamsError(f"{path}: data.name or train is missing") from error
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error
    if _POLICY_SECTION in content:
        raise ParamsError(
            f"{path}: section {_POLICY_SECTION} has moved; put it into "
            "moodlake/scoring/policy.yaml, or the file that MOODLAKE_POLICY names"
        )
    try:
        return TypeAdapter(Params).validate_python({**content, "train": recipe})
    except ValidationError as error:
        messages = [_message(problem, inherited) for problem in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(messages)}") from error


def _recipe(train: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the recipe for a data set, and for each inherited key the section that it is from.

    Raises:
        ParamsError: a section has the form of version 3.2 and before.
    """
    if whole := [
        key for key, value in train.items() if isinstance(value, dict) and key != _BY_DATA_SET
    ]:
        raise ParamsError(
            f"train.{whole[0]} is a whole recipe; train is one recipe for all data sets, and "
            f"train.{_BY_DATA_SET}.{whole[0]} holds the values that differ (epochs, learning_rate, "
            "ema_decay, mixup)"
        )
    recipe = {key: value for key, value in train.items() if key != _BY_DATA_SET}
    inherited: dict[str, str] = {}
    for section in (_OTHER, name):
        for key, value in (train.get(_BY_DATA_SET, {}).get(section) or {}).items():
            if train.get(key) is None:
                recipe[key], inherited[key] = value, f"train.{_BY_DATA_SET}.{section}"
    return recipe, inherited


def _message(problem: Any, inherited: dict[str, str]) -> str:
    """Describe one of pydantic's errors with the parameter's name in the file."""
    if cause := problem.get("ctx", {}).get("error"):  # raised by a section itself
        return str(cause)
    section, *keys = map(str, problem["loc"])
    if section == "train" and keys and keys[0] in inherited:
        section = inherited[keys[0]]
    name = ".".join((section, *keys))
    if problem["type"] in ("missing", "unexpected_keyword_argument"):
        return f"{name} is {'missing' if problem['type'] == 'missing' else 'unknown'}"
    return f"{name} is {problem['input']!r}: {problem['msg']}"
