"""Training on batches from a server: `FitConfig` says what, `fit` does it.

    config -> volumes (who is validated) -> Learner (network, loss, optimizer) + BatchFeed (stream) -> Training (the loop) -> FitResult

Importing this imports no Keras; `fit` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augtrain.fit.fit_config import FitConfig
from augtrain.fit.sections import (
    AugmentationConfig,
    BatchConfig,
    CheckpointConfig,
    OptimizerConfig,
    RateConfig,
    ValidationConfig,
)

if TYPE_CHECKING:
    from augtrain.fit.training_run import FitResult, fit

__all__ = [
    "AugmentationConfig",
    "BatchConfig",
    "CheckpointConfig",
    "FitConfig",
    "FitResult",
    "OptimizerConfig",
    "RateConfig",
    "ValidationConfig",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name in ("fit", "FitResult"):
        from augtrain.fit import training_run

        return getattr(training_run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
