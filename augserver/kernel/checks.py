"""What the kernel refuses, before any work: each check raises with what, where, got, allowed and the way out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from augclient.contract import BORDERS, LABEL_RULES, MAX_CHANNELS
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.augment.steps import STEPS
from augserver.errors import GeometryError, RecipeError, RequestError
from augserver.kernel.params import INPUT_TYPES, OUTPUT_TYPES, farthest_coordinate
from augserver.volume import Volume

# Bounds of the kernel's arithmetic (cuda/warp.h): coordinates and a row's steps fit 32-bit integers with room for a block of 64.
MAX_COORDINATE = 2.0**22
MAX_ENTRY = 2.0**16
MAX_VOXELS = 2**31 - 1
MAX_INTENSITY = 1e30

Shape3 = tuple[int, int, int]


def check_volume(volume: Volume, where: str) -> None:
    """Raise RequestError unless the kernel can read this volume."""
    image, label = volume.image, volume.label
    if image.ndim != 4 or not 1 <= image.shape[0] <= MAX_CHANNELS or 0 in image.shape:
        raise RequestError(f"{where}: image shape {image.shape}; allowed: (C, Z, Y, X) with 1 to {MAX_CHANNELS} channels and no empty axis")
    if image.dtype.name not in INPUT_TYPES or not image.dtype.isnative:
        raise RequestError(f"{where}: image dtype {image.dtype}; allowed: {', '.join(INPUT_TYPES)}; convert it when it is ingested")
    if not image.flags.c_contiguous or not image.flags.aligned:
        raise RequestError(f"{where}: image is not C-contiguous; pass numpy.ascontiguousarray(image)")
    if math.prod(image.shape[1:]) > MAX_VOXELS:
        raise RequestError(f"{where}: {image.shape[1:]} is more than {MAX_VOXELS} voxels in a channel; crop or split the volume")
    if label is not None:
        if label.shape != image.shape[1:] or label.dtype != np.uint8:
            raise RequestError(f"{where}: label {label.dtype} {label.shape}; allowed: uint8 {image.shape[1:]}, the image's grid")
        if not label.flags.c_contiguous:
            raise RequestError(f"{where}: label is not C-contiguous; pass numpy.ascontiguousarray(label)")


def check_outputs(out_image: NDArray[Any], out_label: NDArray[Any] | None, samples: int, channels: int) -> None:
    """Raise RequestError unless the arrays can take `samples` patches of `channels` channels."""
    if out_image.ndim != 5 or out_image.shape[:2] != (samples, channels) or 0 in out_image.shape:
        raise RequestError(f"out_image shape {out_image.shape}; allowed: (N, C, Z, Y, X) with N = {samples}, C = {channels}")
    if out_image.dtype.name not in OUTPUT_TYPES or not out_image.dtype.isnative:
        raise RequestError(f"out_image dtype {out_image.dtype}; allowed: {', '.join(OUTPUT_TYPES)}")
    if max(out_image.shape[2:]) > MAX_VOXELS:
        raise RequestError(f"out_image shape {out_image.shape}; allowed: fewer than 2^31 voxels along an axis")
    _check_writable("out_image", out_image)
    if out_label is not None:
        expected = (samples, *out_image.shape[2:])
        if out_label.shape != expected or out_label.dtype != np.uint8:
            raise RequestError(f"out_label {out_label.dtype} {out_label.shape}; allowed: uint8 {expected}")
        _check_writable("out_label", out_label)


def _check_writable(name: str, array: NDArray[Any]) -> None:
    if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
        raise RequestError(f"{name} must be C-contiguous, aligned and writable; augserver.kernel.allocate makes such arrays")


def check_params(params: SampleParams, out_shape: Shape3, out_dtype: str, where: str) -> None:
    """Raise GeometryError or RecipeError unless the kernel can apply these parameters to a patch of `out_shape`."""
    _check_affine(params.affine, out_shape, where)
    for name in ("fill", "contrast", "pivot", "brightness", "gamma", "noise_std"):
        value = getattr(params, name)
        if not abs(value) <= MAX_INTENSITY:
            raise RecipeError(f"{where}: {name} is {value}; allowed: a finite number of at most {MAX_INTENSITY:g}")
    if params.noise_std < 0:
        raise RecipeError(f"{where}: noise_std is {params.noise_std}; allowed: >= 0")
    if not 0 <= params.noise_key < 2**64:
        raise RecipeError(f"{where}: noise_key is {params.noise_key}; allowed: 0 to 2^64 - 1")
    if params.gamma <= 0:
        raise RecipeError(f"{where}: gamma is {params.gamma}; allowed: > 0")
    if params.steps:
        _refuse_both(params, where)
    if params.window is not None:
        _check_window(params.window, where)
    elif params.steps and out_dtype == "uint8":
        if not any(STEPS[step.op].unit_range(step.values) for step in params.steps):
            raise RecipeError(
                f"{where}: uint8 output is 255 times an image in [0, 1], and no step makes one; add a window step, or ask for float32"
            )
    elif params.gamma != 1.0 or out_dtype == "uint8":
        need = "gamma acts on the window's [0, 1]" if params.gamma != 1.0 else "uint8 output is 255 times the windowed image"
        raise RecipeError(f"{where}: there is no window, but {need}; give a window (low, high)")
    if params.occlusion is not None and not 0 <= params.occlusion[0] <= params.occlusion[1] <= out_shape[0]:
        raise RecipeError(f"{where}: occlusion {params.occlusion}; allowed: 0 <= start <= stop <= {out_shape[0]} planes of the patch")
    for name, allowed in (("border", BORDERS), ("label_rule", LABEL_RULES)):
        if getattr(params, name) not in allowed:
            raise RecipeError(f"{where}: {name} is {getattr(params, name)!r}; allowed: {', '.join(map(repr, allowed))}")
    if params.sampler == "texture" and (params.border == "edge" or params.tap_limits is not None):
        what = 'the border "edge"' if params.border == "edge" else "limits on voxels before interpolation"
        raise RecipeError(f'{where}: a texture sampler does not have {what}; use output.sampler = "exact"')
    for label in {params.occlusion_label, params.outside_label, params.ignore_label, *(params.keep_labels or ())} - {None}:
        if label is not None and not 0 <= label <= 255:
            raise RecipeError(f"{where}: label {label}; allowed: 0 to 255")


def _refuse_both(params: SampleParams, where: str) -> None:
    """Steps take the place of what has a fixed order: the kernel would leave that out."""
    done = {
        "occlusion": params.occlusion is not None,
        "contrast": params.contrast != 1.0,
        "brightness": params.brightness != 0.0,
        "gamma": params.gamma != 1.0,
        "noise_std": params.noise_std != 0.0,
        "window": params.window is not None,
    }
    both = [name for name, given in done.items() if given]
    if both:
        raise RecipeError(f"{where}: {', '.join(both)} beside steps; write what it does as a step, at its place among the others")


def check_channels(params: SampleParams, channels: int, where: str) -> None:
    """Raise RecipeError unless what is given per channel is given for all `channels` of a volume, and finite."""
    for name, values in (("fills", params.fills), ("tap_limits", params.tap_limits)):
        if values is not None and len(values) != channels:
            raise RecipeError(f"{where}: {name} is given for {len(values)} channels; allowed: {channels}, as many as the volume has")
    for fill in params.fills or ():
        if not abs(fill) <= MAX_INTENSITY:
            raise RecipeError(f"{where}: a fill is {fill}; allowed: finite numbers of at most {MAX_INTENSITY:g}")
    for low, high in params.tap_limits or ():
        if not (abs(low) <= MAX_INTENSITY and abs(high) <= MAX_INTENSITY and low <= high):
            raise RecipeError(f"{where}: tap_limits ({low}, {high}); allowed: finite numbers with low <= high")


def _check_affine(affine: NDArray[np.float32], out_shape: Shape3, where: str) -> None:
    if affine.shape != (3, 4) or affine.dtype != np.float32:
        raise GeometryError(f"{where}: affine {affine.dtype} {affine.shape}; allowed: float32 (3, 4), output voxel to input voxel, zyx")
    if not np.isfinite(affine).all():
        raise GeometryError(f"{where}: affine has entries that are not finite: {affine.tolist()}")
    largest = float(np.abs(affine[:, :3]).max())
    if largest > MAX_ENTRY:
        raise GeometryError(f"{where}: affine steps {largest:g} input voxels per output voxel; allowed: at most {MAX_ENTRY:g}")
    farthest = farthest_coordinate(affine, out_shape)
    if farthest > MAX_COORDINATE:
        raise GeometryError(f"{where}: affine reaches {farthest:g} voxels from the volume; allowed: {MAX_COORDINATE:g}; check its offset")


def _check_window(window: tuple[float, float], where: str) -> None:
    low, high = window
    if not (abs(low) <= MAX_INTENSITY and abs(high) <= MAX_INTENSITY and low < high):
        raise RecipeError(f"{where}: window ({low}, {high}); allowed: finite numbers with low < high")
    span = np.float32(high) - np.float32(low)
    if not span > 0 or high - low < 1e-30:
        raise RecipeError(f"{where}: window ({low}, {high}) is empty in float32; widen it")
