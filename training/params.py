"""params.yaml as checked, frozen objects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

PARAMS_FILE = Path("params.yaml")
LOSSES = ("kl", "cross_entropy", "hard_cross_entropy", "label_drawing")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("one_cycle", "cosine")
PRECISIONS = ("fp32", "fp16")
CALIBRATIONS = ("none", "temperature", "vector")
_WEIGHTS_SUFFIXES = (".safetensors", ".mar")
OTHER = "other"
"""The recipe of every data set that has none of its own."""

_T = TypeVar("_T")


class ParamsError(ValueError):
    """A parameter that is unknown, missing or out of range; the message says where and what."""


@dataclass(frozen=True)
class DataParams:
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
    valid_share: float = 0.15
    limit: int | None = None
    seed: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.valid_share < 1:
            raise ParamsError(f"data: valid_share is {self.valid_share}; it must be in (0, 1)")
        if self.limit is not None and self.limit < 1:
            raise ParamsError(f"data: limit is {self.limit}; it must be positive, or null")


@dataclass(frozen=True)
class ModelParams:
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
    size: int | None
    channels: int | None
    dropout: float | None
    weights: str | None

    def __post_init__(self) -> None:
        if self.size is not None and not 16 <= self.size <= 1024:
            raise ParamsError(f"model.size is {self.size}; it must be 16 to 1024, or null")
        if self.channels not in (None, 1, 3):
            raise ParamsError(f"model.channels is {self.channels}; it must be 1, 3 or null")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ParamsError(f"model.dropout is {self.dropout}; it must be in [0, 1), or null")
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
class TrainParams:
    """The recipe; see training/optimize.py. Null stands for the architecture's own value.

    Attributes:
        epochs, batch_size, seed: as ever.
        loss: one of LOSSES.
        class_balance: of hard_cross_entropy's classes; 0 counts each row alike, 1 each class.
        teachers: archives of models to learn from as well; see training/teachers.py.
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

    epochs: int
    batch_size: int
    loss: str
    class_balance: float
    teachers: list[str]
    teacher_share: float
    optimizer: str | None
    learning_rate: float | None
    weight_decay: float | None
    schedule: str
    warm_up: float
    trainable: int | None
    layer_decay: float
    ema_decay: float
    mixup: float
    patience: int
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ParamsError(
                "train: epochs >= 1 and batch_size >= 2 are needed, "
                f"not {self.epochs} and {self.batch_size}"
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ParamsError(f"train: learning_rate is {self.learning_rate}; it must be positive")
        if self.trainable is not None and self.trainable < 1:
            raise ParamsError(f"train: trainable is {self.trainable}; it must be >= 1, or null")
        if not 0 <= self.ema_decay < 1:
            raise ParamsError(f"train: ema_decay is {self.ema_decay}; it must be in [0, 1)")
        for name in ("class_balance", "teacher_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ParamsError(f"train: {name} is {getattr(self, name)}; it must be in [0, 1]")
        if not 0 < self.layer_decay <= 1:
            raise ParamsError(f"train: layer_decay is {self.layer_decay}; it must be in (0, 1]")
        if not 0 < self.warm_up < 1:
            raise ParamsError(f"train: warm_up is {self.warm_up}; it must be in (0, 1)")
        if self.mixup < 0 or self.patience < 0:
            raise ParamsError("train: mixup and patience cannot be negative")
        for name, known in (
            ("loss", LOSSES),
            ("optimizer", (*OPTIMIZERS, None)),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, name) not in known:
                raise ParamsError(
                    f"train: {name}={getattr(self, name)!r} is not one of "
                    f"{', '.join(map(str, known))}"
                )


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
class CalibrateParams:
    """How probabilities are made to mean what they say; see training/calibrate.py."""

    method: str

    def __post_init__(self) -> None:
        if self.method not in CALIBRATIONS:
            raise ParamsError(
                f"calibrate: method={self.method!r} is not one of {', '.join(CALIBRATIONS)}"
            )


@dataclass(frozen=True)
class ArchiveParams:
    """How the model is called where it is served, and how its weights are kept: fp32 or fp16."""

    name: str
    version: str
    precision: str

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ParamsError(
                f"archive: precision={self.precision!r} is not one of {', '.join(PRECISIONS)}"
            )


@dataclass(frozen=True)
class Params:
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
        data = _section(DataParams, content["data"], "data")
        recipes = content["train"]
        recipe = data.name if data.name in recipes else OTHER
        return Params(
            data,
            _section(ModelParams, content["model"], "model"),
            _section(TrainParams, recipes[recipe], f"train.{recipe}"),
            _section(AugmentParams, content["augment"], "augment"),
            _section(CalibrateParams, content["calibrate"], "calibrate"),
            _section(ArchiveParams, content["archive"], "archive"),
        )
    except (KeyError, TypeError) as error:
        raise ParamsError(f"{path}: a section is missing: {error}") from error
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error


def _section(kind: type[_T], values: dict[str, Any], name: str) -> _T:
    """Checked for names and types; numbers may be written as text, as YAML 1.1 takes 1e-3."""
    expected = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - expected:
        raise ParamsError(f"{name}: unknown {sorted(unknown)}; known: {sorted(expected)}")
    if missing := expected - set(values):
        raise ParamsError(f"{name}: {sorted(missing)} missing")
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        if cause := problem.get("ctx", {}).get("error"):
            raise ParamsError(str(cause)) from error
        key = ".".join((name, *map(str, problem["loc"])))
        raise ParamsError(f"{key} is {problem['input']!r}: {problem['msg']}") from error
