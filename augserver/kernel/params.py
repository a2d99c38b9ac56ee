"""The array of structs that the kernel reads, one per sample; cuda/params_fields.h names its fields, and the compiled module tells them.

A backend packs a batch into such an array; addresses are of memory that the executing device can read.
"""

from __future__ import annotations

import math

import numpy as np
from augclient.contract import MAX_CHANNELS
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError

try:
    from augserver.kernel import _cpu
except ImportError as cause:
    raise BackendError(f"the compiled kernel augserver.kernel._cpu cannot be loaded ({cause}); run `pip install .`") from cause

KEEP_OCCLUDED_LABEL = -1

INPUT_TYPES = {"int16": 0, "float32": 1}
OUTPUT_TYPES = {"float32": 0, "float16": 1, "uint8": 2}

NO_LABEL = -1

WINDOW, GAMMA, NOISE, KEEP_LABELS, NEAREST, LINEAR_LABELS, EDGE, LIMITS = 1, 2, 4, 8, 16, 32, 64, 128

try:
    PARAMS_DTYPE = np.dtype(_cpu.params_layout())
except (TypeError, ValueError) as cause:
    raise BackendError("the compiled kernel augserver.kernel._cpu is older than these sources; run `pip install .`") from cause

_FIXED_ONE = float(1 << 32)


def pack_sample(
    row: NDArray[np.void],
    params: SampleParams,
    *,
    in_shape: tuple[int, int, int],
    in_dtype: str,
    channels: int,
    out_shape: tuple[int, int, int],
    out_dtype: str,
    addresses: tuple[int, int, int, int],
    nearest: bool = False,
) -> None:
    """Write one sample into `row`, an element of an array of PARAMS_DTYPE. `params` has been checked (check_params).

    Args:
        row: array of shape () or (1,) and dtype PARAMS_DTYPE.
        params: what to apply.
        in_shape, out_shape: (Z, Y, X).
        in_dtype, out_dtype: keys of INPUT_TYPES, OUTPUT_TYPES.
        channels: of the image, 1..MAX_CHANNELS.
        addresses: of image, label, output image, output label; label addresses 0: none.
        nearest: the image takes its nearest voxel.
    """
    affine = params.affine.astype(np.float64)
    fixed = np.rint(affine * _FIXED_ONE).astype(np.int64)
    flags = NEAREST if nearest else 0
    low, inverse, span = 0.0, 0.0, 0.0
    if params.window is not None:
        flags |= WINDOW
        low, span = params.window[0], params.window[1] - params.window[0]
        inverse = 1.0 / span
    if params.gamma != 1.0:
        flags |= GAMMA
    if params.noise_std > 0.0:
        flags |= NOISE
    if params.label_rule == "linear":
        flags |= LINEAR_LABELS
    if params.border == "edge":
        flags |= EDGE
    limits = np.zeros((2, MAX_CHANNELS), np.float32)
    if params.tap_limits is not None:
        flags |= LIMITS
        limits[:, :channels] = np.array(params.tap_limits, np.float32).T + 0.0
    fill = np.zeros(MAX_CHANNELS, np.float32)
    fill[:channels] = params.fill if params.fills is None else params.fills
    keep = [0] * 8
    if params.keep_labels is not None:
        flags |= KEEP_LABELS
        for label in params.keep_labels:
            keep[label >> 5] |= 1 << (label & 31)
    # + 0.0 turns -0.0 into 0.0: a sum with it must not depend on which of a voxel's taps has weight 0
    shift = params.pivot - params.contrast * params.pivot + params.brightness + 0.0
    row[...] = (
        *addresses,
        fixed[:, 3],
        fixed[:, :3].T,
        params.affine[:, 2],
        in_shape,
        out_shape,
        channels,
        INPUT_TYPES[in_dtype],
        OUTPUT_TYPES[out_dtype],
        flags,
        params.outside_label,
        NO_LABEL if params.ignore_label is None else params.ignore_label,
        params.contrast,
        shift,
        params.gamma,
        params.noise_std,
        low,
        inverse,
        span,
        (params.noise_key & 0xFFFFFFFF, params.noise_key >> 32),
        params.occlusion or (0, 0),
        KEEP_OCCLUDED_LABEL if params.occlusion_label is None else params.occlusion_label,
        keep,
        0,
        0,
        (0,) * 9,
        0,
        fill + 0.0,
        *limits,
    )


def farthest_coordinate(affine: NDArray[np.float32], out_shape: tuple[int, int, int]) -> float:
    """Largest |coordinate| in voxels, along any axis, that `affine` (3, 4) gives a corner of a patch; inf or nan where it overflows."""
    matrix = affine.astype(np.float64)
    reach = np.abs(matrix[:, :3]) @ np.maximum(np.array(out_shape) - 1, 0) + np.abs(matrix[:, 3])
    worst = float(reach.max())
    return worst if not math.isnan(worst) else math.inf
