"""The programs that the kernel runs on a sample's channels: one op for each intensity step that changes the channel.

The compiled module says what each step's numbers are called and in which order; the steps' declarations give them by these names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from augclient.contract import MAX_CHANNELS
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.augment.step_rules import AppliedStep
from augserver.augment.steps import STEPS
from augserver.errors import BackendError, RecipeError
from augserver.kernel import _cpu

OP_DTYPE = np.dtype([("step", "<u4"), ("values", "<u4"), ("key", "<u4", (2,))])

KERNEL_STEPS: dict[str, Any] = _cpu.steps()

_lacking = [op for op, step in STEPS.items() if step.numbers is not None and op not in KERNEL_STEPS]
if _lacking:
    raise BackendError(f"the compiled kernel lacks the steps {', '.join(_lacking)}: it is older than these sources; run `pip install .`")


class Programs:
    """The ops of a batch's samples, and the numbers that they read."""

    def __init__(self) -> None:
        self._samples = 0
        self._ops: list[tuple[int, int, tuple[int, int]]] = []
        self._values: list[float] = []

    def add(self, params: SampleParams, channels: int) -> list[int] | None:
        """Append one sample's; returns its `op_ends`, or None where it has no step that changes a voxel."""
        steps = [step for step in params.steps if step.fired and step.channels]
        if not params.steps:
            return None
        self._samples += 1
        ends = [len(self._ops)]
        for channel in range(channels):
            for step in steps:
                if channel in step.channels:
                    self._add_op(step, channel)
            ends.append(len(self._ops))
        return ends + [ends[-1]] * (MAX_CHANNELS + 1 - len(ends))

    def _add_op(self, step: AppliedStep, channel: int) -> None:
        known = KERNEL_STEPS[step.op]
        values = step.of_channel(channel)
        numbers = STEPS[step.op].numbers
        assert numbers is not None
        named = numbers(values)
        low, high = values.get("noise_key", (0, 0))
        self._ops.append((known["code"], len(self._values), (int(low), int(high))))
        for name in known["values"]:
            value = named[name]
            self._values += [float(one) for one in value] if isinstance(value, (list, tuple)) else [float(value)]

    def arrays(self) -> tuple[NDArray[np.void], NDArray[np.float32]] | tuple[None, None]:
        """The ops (OP_DTYPE) and their numbers, at least one of each; (None, None) if no sample has a program.

        Raises:
            RecipeError: a number is beyond float32.
        """
        if not self._samples:
            return None, None
        with np.errstate(over="ignore"):
            values = np.array(self._values or [0.0], np.float32)
        if not np.isfinite(values).all():
            raise RecipeError("a step's value is beyond float32; take smaller ones")
        return np.array(self._ops or [(0, 0, (0, 0))], OP_DTYPE), values
