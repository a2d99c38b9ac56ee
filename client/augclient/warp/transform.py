"""What is done to one volume, given explicitly; and the volume itself, as it goes over the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from augclient.contract import BORDERS, LABEL_RULES, MAX_CHANNELS
from augclient.errors import GeometryError, RequestError
from augclient.recipe import steps_message
from augclient.stream.batch import AppliedStep
from augclient.stream.spec import IMAGE_DTYPES
from augclient.wire.v1 import augserver_pb2 as pb

INTERPOLATIONS = {"linear": pb.LINEAR, "nearest": pb.NEAREST}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transform:
    """Parameters of one volume, applied in the order: occlusion, affine, contrast and brightness, gamma, noise, window.

    Attributes:
        affine: (3, 4), output voxel -> input voxel, zyx.
        interpolation: "linear" or "nearest", of the image.
        label_rule: "nearest"; or "linear", the label with the largest sum of trilinear weights among the eight voxels around the place.
        border: what lies outside the volume: "fill" (and `outside_label`), or "edge", its nearest voxel.
        outside_label: label outside the volume; `keep_labels` does not touch it.
        fills: one fill for each channel, in place of `fill`.
        fill: value outside the volume and in the occluded slab, in the image's unit; blended at the faces, sent through the window.
        noise_std: of Gaussian noise, in the image's unit.
        noise_key: 64-bit; the same key gives the same noise. None: the item's number in its stream, so that no two items of a
            stream have the same noise.
        window: (low, high), low < high, mapped to [0, 1] and clamped; None: the result is in the image's unit.
        occlusion: (z0, z1), half open, planes of the output without image, noise and intensity changes.
        occlusion_label: label of the slab; None keeps what is there.
        ignore_label: label that stays itself in the slab; None: there is none.
        contrast, pivot, brightness: v -> pivot + contrast (v - pivot) + brightness.
        gamma: exponent on the window's [0, 1].
        keep_labels: label ids that survive, all others become 0; None: all survive.
        steps: intensity steps with explicit values, in order: a table each, {"op": "gamma", "exponent": 0.8}, or `Sample.steps` of a
            batch, of which those are left out that did not fire and the spatial ones, which `affine` holds. In place of contrast to
            occlusion.
    """

    affine: ArrayLike = field(default_factory=lambda: np.eye(3, 4, dtype=np.float32))
    interpolation: str = "linear"
    fill: float = 0.0
    noise_std: float = 0.0
    noise_key: int | None = None
    window: tuple[float, float] | None = None
    occlusion: tuple[int, int] | None = None
    occlusion_label: int | None = 0
    contrast: float = 1.0
    pivot: float = 0.0
    brightness: float = 0.0
    gamma: float = 1.0
    keep_labels: Iterable[int] | None = None
    label_rule: str = LABEL_RULES[0]
    border: str = BORDERS[0]
    outside_label: int = 0
    fills: Sequence[float] | None = None
    ignore_label: int | None = None
    steps: Sequence[AppliedStep | Mapping[str, Any]] = ()

    def message(self) -> pb.Transform:
        """As the wire has it. What the kernel allows is checked by the server.

        Raises:
            GeometryError: the affine is not of 3x4 numbers. RequestError: a value that the wire cannot carry.
        """
        try:
            with np.errstate(over="ignore"):
                matrix = np.asarray(self.affine, np.float64).astype(np.float32)
        except (TypeError, ValueError) as error:
            raise GeometryError(f"affine: no array of numbers ({error}); allowed: (3, 4), output voxel to input voxel, zyx") from None
        if matrix.shape != (3, 4):
            raise GeometryError(f"affine: got shape {matrix.shape}; allowed: (3, 4), output voxel to input voxel, zyx")
        if self.keep_labels is not None and not (keep := sorted(set(self.keep_labels))):
            raise RequestError("keep_labels: names no label; allowed: at least one id, or None, which keeps all")
        try:
            low, high = self.window or (None, None)
            start, stop = self.occlusion or (None, None)
            message = pb.Transform(
                affine=matrix.ravel().tolist(),
                fill=self.fill,
                noise_std=self.noise_std,
                noise_key=self.noise_key,
                window_low=low,
                window_high=high,
                occlusion_start=start,
                occlusion_stop=stop,
                contrast=self.contrast,
                pivot=self.pivot,
                brightness=self.brightness,
                gamma=self.gamma,
                keep_labels=() if self.keep_labels is None else keep,
                # a default is left out: a server without these fields refuses a message that has them
                label_rule=self.label_rule if self.label_rule != LABEL_RULES[0] else None,
                border=self.border if self.border != BORDERS[0] else None,
                outside_label=self.outside_label,
                fills=self.fills,
                ignore_label=self.ignore_label,
                steps=_step_messages(self.steps),
            )
            if self.occlusion_label is None:
                message.keep_occluded_label = True
            else:
                message.occlusion_label = self.occlusion_label
        except (TypeError, ValueError) as error:
            raise RequestError(f"transform: {error}; window and occlusion are pairs, ids and keys whole numbers >= 0") from None
        return message


def _step_messages(steps: Sequence[AppliedStep | Mapping[str, Any]]) -> list[pb.AppliedStep]:
    tables, channels = [], []
    for step in steps:
        if isinstance(step, AppliedStep):
            if not (step.fired and step.channels):
                continue
            step = {**step.values, "op": step.op, "channels": step.channels}
        table = dict(step)
        channels.append(table.pop("channels", ()))
        tables.append(table)
    messages = zip(steps_message(tables, "steps"), channels, strict=True)
    return [pb.AppliedStep(op=each.op, fired=True, channels=changed, values=each.values) for each, changed in messages]


@dataclass(frozen=True, slots=True, eq=False)
class WireVolume:
    """One volume as it is sent.

    Attributes:
        image: int16 or float32 (C, Z, Y, X), C-contiguous, little-endian.
        label: uint8 (Z, Y, X), C-contiguous, or None.
        has_channels: whether the caller's image had its axis C.
        paired: whether the caller gave (image, label), and so expects a pair.
    """

    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    has_channels: bool
    paired: bool


def read_volume(given: Any) -> WireVolume:
    """An image, or a pair (image, label), as arrays that can be sent; copies only what has another type or layout.

    Raises:
        RequestError: no array of 3 or 4 axes, a label on another grid, or values that int16 and float32 cannot hold exactly.
    """
    paired = isinstance(given, tuple)
    if paired and len(given) != 2:
        raise RequestError(f"volume: got a tuple of {len(given)}; allowed: an array, or a pair (image, label)")
    image = np.asarray(given[0] if paired else given)
    if image.ndim not in (3, 4) or image.size == 0 or (image.ndim == 4 and len(image) > MAX_CHANNELS):
        raise RequestError(
            f"image: got shape {image.shape}; allowed: (Z, Y, X), or (C, Z, Y, X) with at most {MAX_CHANNELS} channels; for 2-D, Z = 1"
        )
    voxels = _exact("image", image, ("<i2", "<f4"))
    label = None
    if paired and given[1] is not None:
        label = _exact("label", np.asarray(given[1]), ("u1",))
        if label.shape != image.shape[-3:]:
            raise RequestError(f"label: got shape {label.shape}; allowed: {image.shape[-3:]}, the image's grid without channels")
    return WireVolume(voxels if image.ndim == 4 else voxels[None], label, image.ndim == 4, paired)


def item_message(volume: WireVolume, transform: Transform, shape: Sequence[int] | None, image_dtype: str) -> pb.WarpItem:
    """The header of one item.

    Args:
        shape: (Z, Y, X) of the result; None: the volume's own.
        image_dtype: of the result.
    Raises:
        RequestError: the transform is none, or holds what the wire cannot carry.
    """
    if not isinstance(transform, Transform):
        raise RequestError(f"transform: got {type(transform).__name__}; allowed: an augclient.Transform")
    if transform.interpolation not in INTERPOLATIONS:
        raise RequestError(f"interpolation: got {transform.interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}")
    return pb.WarpItem(
        image_shape=volume.image.shape,
        image_dtype=volume.image.dtype.newbyteorder("=").name,
        has_label=volume.label is not None,
        output_shape=volume.image.shape[1:] if shape is None else shape,
        output_dtype=IMAGE_DTYPES[image_dtype],
        interpolation=INTERPOLATIONS[transform.interpolation],
        transform=transform.message(),
    )


def _exact(name: str, array: NDArray[Any], targets: Sequence[str]) -> NDArray[Any]:
    """`array`, C-contiguous, in the first of these types that holds each of its values."""
    for target in targets:
        if array.dtype == target:
            return np.ascontiguousarray(array)
    if array.dtype.kind in "biuf":
        for target in targets:
            with np.errstate(invalid="ignore", over="ignore"):
                converted = np.ascontiguousarray(array, target)
                if np.array_equal(converted.astype(array.dtype), array):
                    return converted
    allowed = " or ".join(np.dtype(target).name for target in targets)
    raise RequestError(f"{name}: got {array.dtype} with values that {allowed} cannot hold exactly; round or scale it to {allowed}")
