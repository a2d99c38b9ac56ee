"""One volume, one explicit transformation: the kernel without a server."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from augclient.contract import BORDERS, LABEL_RULES
from numpy.typing import ArrayLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.backends import BACKENDS
from augserver.errors import BudgetError, GeometryError, RecipeError, RequestError
from augserver.kernel.backend import Backend, open_backend
from augserver.volume import Volume, VolumeInfo

T = TypeVar("T")

_opening = threading.Lock()
_backends: dict[str, Backend] = {}  # by what was asked for, and by their own names


def warp(
    image: NDArray[Any],
    affine: ArrayLike,
    shape: tuple[int, ...],
    *,
    label: NDArray[Any] | None = None,
    interpolation: str = "linear",
    noise_std: float = 0,
    noise_key: int = 0,
    window: tuple[float, float] | None = None,
    occlude: tuple[int, int] | None = None,
    fill: float = 0,
    label_rule: str = LABEL_RULES[0],
    outside_label: int = 0,
    border: str = BORDERS[0],
    backend: str | Backend = "auto",
) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Warp an image, and its label, in one pass: occlude -> affine -> noise -> window.

    Args:
        image: (Z, Y, X), (C, Z, Y, X) or (Y, X). int16 and float32 are used as they are; other types are converted where every value
            stays exactly the same.
        affine: output voxel -> input voxel, zyx: (3, 4), or (2, 3) for a (Y, X) image.
        shape: of the output: (Z, Y, X), or (Y, X) for a (Y, X) image.
        label: integers 0..255 on the image's grid (without channels), or None.
        interpolation: "linear" or "nearest", of the image.
        noise_std: of Gaussian noise, in the image's unit; the same `noise_key` gives the same noise.
        noise_key: 64-bit; another key, another noise.
        window: (low, high), mapped to [0, 1] and clamped; None: the output is in the image's unit.
        occlude: planes [z0, z1) of the output that become `fill`, label 0, without noise; rows for a (Y, X) image are not occluded.
        fill: value outside the image, in its unit; blended at the faces and sent through the window like any voxel.
        label_rule: "nearest" voxel; or "linear", the label with the largest sum of trilinear weights among the eight voxels around a place.
        outside_label: label outside the image.
        border: what lies outside: "fill" (and outside_label), or "edge", the nearest voxel inside, of image and label.
        backend: of augserver.backends, "auto", or an open backend.
    Returns:
        float32 image of `shape`, with C in front if the input has channels; with `label`, a pair (image, uint8 label).
    Raises:
        RequestError: image, label, shape or interpolation are not allowed.
        GeometryError: the affine is not finite or reaches absurdly far.
        RecipeError: noise, window, occlusion or fill are not allowed.
        BudgetError: there is no memory for the output.
        BackendError: the backend cannot run here.
    """
    if interpolation not in ("linear", "nearest"):
        raise RequestError(f"interpolation {interpolation!r}; allowed: 'linear', 'nearest'")
    volume, flat = _as_volume(image, label)
    patch = _as_patch(shape, flat)
    if flat and occlude is not None:
        raise RequestError("occlude takes planes of a 3-D output, and the image is (Y, X); pass image[None] and a (3, 4) affine")
    params = SampleParams(
        affine=_as_affine(affine, flat),
        fill=_read("fill", fill, _number, "a number"),
        noise_std=_read("noise_std", noise_std, _number, "a number"),
        noise_key=_read("noise_key", noise_key, operator.index, "a whole number"),
        window=None if window is None else _read("window", window, _pair_of(_number), "two numbers (low, high), or None"),
        label_rule=label_rule,
        outside_label=_read("outside_label", outside_label, operator.index, "a whole number"),
        border=border,
        occlusion=None if occlude is None else _read("occlude", occlude, _pair_of(operator.index), "two whole numbers (z0, z1), or None"),
    )
    device = _shared_backend(backend) if isinstance(backend, str) else backend
    try:
        out_image = device.allocate((1, volume.image.shape[0], *patch), np.float32)
        out_label = None if volume.label is None else device.allocate((1, *patch), np.uint8)
    except MemoryError as error:
        raise BudgetError(f"shape {shape!r}: {error}; ask for a smaller output") from error
    device.augment([volume], [params], out_image, out_label, nearest=interpolation == "nearest")
    warped: NDArray[np.float32] = out_image[0] if image.ndim == 4 else out_image[0, 0, 0] if flat else out_image[0, 0]
    if out_label is None:
        return warped
    return warped, out_label[0, 0] if flat else out_label[0]


def _shared_backend(name: str) -> Backend:
    """The one that all calls of this process use; opened by the first of them, while the others wait."""
    with _opening:
        backend = _backends.get(name)
        if backend is None and name == "auto":
            backend = _backends.get(next(iter(BACKENDS)))  # which "auto" would open a second time
        if backend is None:
            backend = open_backend(name)
            _backends.setdefault(backend.name, backend)
        _backends[name] = backend
        return backend


def _as_volume(image: NDArray[Any], label: NDArray[Any] | None) -> tuple[Volume, bool]:
    """The arrays as a Volume of (C, Z, Y, X), and whether the image was (Y, X)."""
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3, 4):
        got = f"{image.ndim} axes" if isinstance(image, np.ndarray) else type(image).__name__
        raise RequestError(f"image: {got}; allowed: a numpy array (Z, Y, X), (C, Z, Y, X) or (Y, X)")
    flat = image.ndim == 2
    voxels = np.ascontiguousarray(_exactly(image, "image", (np.int16, np.float32)))
    voxels = voxels.reshape((1,) * (4 - image.ndim) + image.shape)
    ids = None
    if label is not None:
        ids = np.ascontiguousarray(_exactly(np.asarray(label), "label", (np.uint8,)))
        if flat and ids.ndim == 2:
            ids = ids[None]
        if ids.shape != voxels.shape[1:]:
            raise RequestError(f"label shape {np.shape(label)}; allowed: {image.shape[-3:]}, the image's grid")
    channels, z, y, x = voxels.shape
    info = VolumeInfo(
        id="image",
        shape=(channels, z, y, x),
        dtype=voxels.dtype.name,
        spacing_mm=(1.0, 1.0, 1.0),
        affine=np.eye(4),
        has_label=ids is not None,
    )
    return Volume(info=info, image=voxels, label=ids), flat


def _exactly(array: NDArray[Any], name: str, targets: tuple[type[np.generic], ...]) -> NDArray[Any]:
    """`array` in the first of these types that holds every value of it exactly."""
    if array.dtype in targets:
        return array
    if array.dtype.kind not in "biuf":
        raise RequestError(f"{name} dtype {array.dtype}; allowed: numbers")
    if array.size == 0:
        raise RequestError(f"{name} has shape {array.shape}, which holds no voxel")
    for target in targets:
        with np.errstate(invalid="ignore", over="ignore"):
            converted = array.astype(target)
            if np.array_equal(converted.astype(array.dtype), array):
                return converted
    allowed = " or ".join(np.dtype(target).name for target in targets)
    raise RequestError(f"{name} dtype {array.dtype} holds values that {allowed} cannot (or NaN); scale or round it, then pass {allowed}")


def _read(name: str, value: Any, read: Callable[[Any], T], allowed: str) -> T:
    """`read(value)`, or a RecipeError where the value is of another kind."""
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise RecipeError(f"{name} {value!r}; allowed: {allowed}") from None


def _number(value: Any) -> float:
    float(0.0 + value)  # a text with digits in it is no number
    number: float = value  # as it was given, for errors that show it
    return number


def _pair_of(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, T]]:
    def read_pair(value: Any) -> tuple[T, T]:
        first, second = value
        return read(first), read(second)

    return read_pair


def _as_affine(affine: ArrayLike, flat: bool) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            matrix = np.asarray(affine, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError) as cause:
        raise GeometryError(f"affine is no array of numbers ({cause}); allowed: (3, 4), output voxel to input voxel, zyx") from cause
    if flat and matrix.shape == (2, 3):
        promoted = np.zeros((3, 4), np.float32)
        promoted[0, 0] = 1.0
        promoted[1:, 1:] = matrix
        return promoted
    if flat:
        raise GeometryError(f"affine shape {matrix.shape}; allowed: (2, 3) for a (Y, X) image, output pixel to input pixel, yx")
    return matrix


def _as_patch(shape: tuple[int, ...], flat: bool) -> tuple[int, int, int]:
    axes = 2 if flat else 3
    try:
        sizes = tuple(int(n) for n in shape)
    except (TypeError, ValueError) as cause:
        raise RequestError(f"shape {shape!r}; allowed: {axes} whole numbers >= 1") from cause
    if len(sizes) != axes or min(sizes) < 1 or sizes != tuple(shape):
        raise RequestError(f"shape {shape!r}; allowed: {axes} whole numbers >= 1, the output's {'(Y, X)' if flat else '(Z, Y, X)'}")
    return (1, sizes[0], sizes[1]) if flat else (sizes[0], sizes[1], sizes[2])
