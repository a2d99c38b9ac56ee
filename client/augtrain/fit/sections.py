"""The tables of a training run's config: what each key means, its default, and what it may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from augclient.errors import ConfigError, PatchError

from augtrain.fit.toml_table import name_nearest

PLATEAU = "plateau"
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """What the server is asked for.

    Attributes:
        patch: (Z, Y, X) voxels; of a 2-D network each plane is an image of its own, so that a batch has size * Z images.
        size: patches per batch.
        dtype: of the image on the way: "float32", "float16" or "uint8", which is a quarter of the bytes.
        transport: as for Server.stream().
        volumes: ids that may be trained on or validated with; None: all.
    """

    patch: tuple[int, ...]
    size: int = 2
    dtype: str = "float32"
    transport: str = "auto"
    volumes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.patch) != 3 or min(self.patch) < 1:
            raise PatchError(f"batches.patch: got {list(self.patch)}; allowed: three whole numbers >= 1 (Z, Y, X)")
        require(self.size >= 1, "batches.size", self.size, "at least 1")
        _choose("batches.dtype", self.dtype, ("float32", "float16", "uint8"))
        _choose("batches.transport", self.transport, ("auto", "local", "grpc"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How weights are moved.

    Attributes:
        name: "adam" or "sgd", which has momentum.
        learning_rate: of the first step.
        momentum: of "sgd".
        clip_norm: gradients are scaled down together where their common L2 norm exceeds this; 0: never. Nguyen had 3 and 5.
        precision: "float32"; "mixed_float16" or "mixed_bfloat16" compute in 16 bits and keep weights and losses in 32.
        jit: on TensorFlow, compile the step by XLA, which takes long to begin. On JAX that is always done, on PyTorch never.
        deterministic: on TensorFlow, let the same machine repeat a run to the bit, at some cost in speed.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    clip_norm: float = 0.0
    precision: str = "float32"
    jit: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        _choose("optimizer.name", self.name, ("adam", "sgd"))
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "[0, 1)")
        require(self.clip_norm >= 0, "optimizer.clip_norm", self.clip_norm, "0 (off) or above")
        _choose("optimizer.precision", self.precision, PRECISIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateConfig:
    """How the learning rate falls.

    Attributes:
        rule: "constant"; "plateau": multiplied by `factor` when what is monitored has not fallen `patience` times (Nguyen: halved);
            "period": multiplied by `factor` every `period` steps (Furtado: 0.9).
        factor: in (0, 1).
        monitor: of "plateau": "validation" (the loss of each validation) or "training" (the mean loss of each `window` steps).
        patience: how many times in a row it may fail to fall.
        min_delta: share by which a value must lie below the best one to count as fallen.
        window: steps that are averaged.
        period: in steps.
        minimum: the rate does not fall below this.
    """

    rule: str = "constant"
    factor: float = 0.5
    monitor: str = "validation"
    patience: int = 3
    min_delta: float = 0.001
    window: int = 100
    period: int = 1000
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _choose("learning_rate.rule", self.rule, ("constant", PLATEAU, "period"))
        require(0 < self.factor < 1, "learning_rate.factor", self.factor, "(0, 1)")
        _choose("learning_rate.monitor", self.monitor, ("validation", "training"))
        _check_plateau("learning_rate", self.patience, self.min_delta, self.window)
        require(self.period >= 1, "learning_rate.period", self.period, "at least 1 step")
        require(self.minimum >= 0, "learning_rate.minimum", self.minimum, "0 or above")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """When the recipe's augmentation begins; before, only its crop, labels, output and the middle of its window apply.

    Attributes:
        start: a step; or "plateau": when the mean loss of `window` steps has not fallen `patience` times in a row (Rister 2018, VI-C, who
            averaged 100 steps).
        patience, min_delta, window: as in RateConfig.
    """

    start: int | str = 0
    patience: int = 3
    min_delta: float = 0.01
    window: int = 100

    def __post_init__(self) -> None:
        number = isinstance(self.start, int) and not isinstance(self.start, bool) and self.start >= 0
        require(number or self.start == PLATEAU, "augmentation.start", self.start, f'a step >= 0, or "{PLATEAU}"')
        _check_plateau("augmentation", self.patience, self.min_delta, self.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """Which volumes are never trained on, and how often they are segmented. At most one of the first three.

    Attributes:
        volumes: their ids.
        fraction: share of the volumes, by a hash of their ids.
        fold: "i/k": the i-th (from 0) of k folds, by the same hash.
        every: steps between validations; 0: at the end alone.
        overlap, weighting: of the sliding window.
        batch_size: patches per call of the network; of a 2-D network each has as many planes as in training.
    """

    volumes: tuple[str, ...] | None = None
    fraction: float = 0.0
    fold: str | None = None
    every: int = 0
    overlap: float = 0.25
    weighting: str = "gaussian"
    batch_size: int = 1

    def __post_init__(self) -> None:
        chosen = [self.volumes is not None, self.fraction != 0, self.fold is not None]
        require(sum(chosen) <= 1, "validation", "several of volumes, fraction and fold", "one of them")
        require(0 <= self.fraction < 1, "validation.fraction", self.fraction, "[0, 1)")
        require(self.every >= 0, "validation.every", self.every, "0 (at the end alone) or a number of steps")
        require(0 <= self.overlap < 1, "validation.overlap", self.overlap, "[0, 1)")
        _choose("validation.weighting", self.weighting, ("flat", "gaussian"))
        require(self.batch_size >= 1, "validation.batch_size", self.batch_size, "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """What a killed run goes on from.

    Attributes:
        every: steps between checkpoints; one is also written at each validation, when augmentation begins, and at the end.
        keep: how many are kept.
    """

    every: int = 100
    keep: int = 2

    def __post_init__(self) -> None:
        require(self.every >= 1, "checkpoints.every", self.every, "at least 1 step")
        require(self.keep >= 1, "checkpoints.keep", self.keep, "at least 1")


def require(holds: bool, key: str, got: object, allowed: str) -> None:
    """Raise a ConfigError unless a value is allowed."""
    if not holds:
        raise ConfigError(f"{key}: got {got!r}; allowed: {allowed}")


def _choose(key: str, got: str, allowed: Collection[str]) -> None:
    if got not in allowed:
        raise ConfigError(f"{key}: got {got!r}{name_nearest(got, allowed)}")


def _check_plateau(table: str, patience: int, min_delta: float, window: int) -> None:
    require(patience >= 1, f"{table}.patience", patience, "at least 1")
    require(0 <= min_delta < 1, f"{table}.min_delta", min_delta, "[0, 1), a share of the best value")
    require(window >= 1, f"{table}.window", window, "at least 1 step")
