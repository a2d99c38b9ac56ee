"""Tune the weights of false positives and false negatives in the IoU loss, by successive halving.

    CalibrateConfig -> candidates (fp_weight, fn_weight) -> rungs of augtrain.fit, each with half of those before -> best.toml

Importing this imports no Keras; `calibrate` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augtrain.calibrate.candidates import CalibrateConfig, Weights
from augtrain.calibrate.trials import Trial

if TYPE_CHECKING:
    from augtrain.calibrate.calibration import Calibration, calibrate

__all__ = ["CalibrateConfig", "Calibration", "Trial", "Weights", "calibrate"]


def __getattr__(name: str) -> Any:
    if name in ("calibrate", "Calibration"):
        from augtrain.calibrate import calibration

        return getattr(calibration, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
