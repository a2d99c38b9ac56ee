"""Read the items of a Warp call: each header is checked wholly before memory is taken for its arrays.

Every refusal names the item's number. What comes out can be pushed into the queue without a further look at the messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.contract import BORDERS, LABEL_RULES, MAX_CHANNELS
from augclient.wire.array_filler import ArrayFiller
from augclient.wire.parts import Part, decode_part
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from augserver.augment.recipe import refuse_unknown_fields
from augserver.augment.sample import SampleParams
from augserver.config import LimitConfig
from augserver.errors import AugError, BudgetError, GeometryError, PatchError, RecipeError, RequestError, WireError
from augserver.kernel import allocate
from augserver.kernel.checks import MAX_VOXELS, Shape3, check_channels, check_params
from augserver.kernel.params import INPUT_TYPES
from augserver.pipeline.byte_budget import BudgetShare
from augserver.service.step_messages import applied_steps
from augserver.volume import Volume, VolumeInfo

_OUTPUT_DTYPES = {number: name.lower() for name, number in pb.ImageDtype.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpItem:
    """One checked item.

    Attributes:
        number: its place in the call, from 0.
        volume: the arrays that came; writable, so that no device keeps them resident for another use that never comes.
        params: what to do.
        shape: (Z, Y, X) of the result.
        dtype: of the result's image.
        nearest: the image takes its nearest voxel.
        size_bytes: that it holds of the call's share, its result included.
    """

    number: int
    volume: Volume
    params: SampleParams
    shape: Shape3
    dtype: str
    nearest: bool
    size_bytes: int


def read_items(messages: Iterator[bytes], *, limits: LimitConfig, share: BudgetShare) -> Iterator[WarpItem]:
    """Items in the order in which they come; waits for messages, and for room in the share.

    Args:
        messages: encoded WarpParts.
        limits: of this server.
        share: bounds the memory; who takes an item gives its size_bytes back.
    Raises:
        AugError: an item that is not allowed, or parts of it that do not fit together; the message names its number.
    """
    for number, first in enumerate(messages):
        # no name for the item here: while this generator waits for the next message it must not keep the last item alive
        yield _read_item(number, first, messages, limits, share)


def name_item(number: int, error: AugError) -> AugError:
    """`error` with the item's number in front; bytes that a client sent wrongly are its request's fault, not the server's."""
    kind = RequestError if isinstance(error, WireError) else type(error)
    return kind(f"item {number}: {error}")


def _read_item(number: int, first: bytes, messages: Iterator[bytes], limits: LimitConfig, share: BudgetShare) -> WarpItem:
    try:
        part = _decode(first, number)
        if part.header is None:
            raise RequestError("its first part came without a header")
        header = _parse(part.header)
        info = _input(header, number)
        params = _params(header.transform, number, info.shape[0])
        shape, dtype = _output(header, limits)
        check_params(params, shape, dtype, "transform")
        check_channels(params, info.shape[0], "transform")
        size_bytes = info.size_bytes + math.prod(shape) * (info.shape[0] * np.dtype(dtype).itemsize + info.has_label)
        share.take(size_bytes, "the volume")
        return WarpItem(
            number=number,
            volume=_receive(info, part, number, messages),
            params=params,
            shape=shape,
            dtype=dtype,
            nearest=header.interpolation == pb.NEAREST,
            size_bytes=size_bytes,
        )
    except AugError as error:
        raise name_item(number, error) from error


def _receive(info: VolumeInfo, part: Part, number: int, messages: Iterator[bytes]) -> Volume:
    """The arrays of which `part` is the first part. In ordinary memory: to pin it for one copy costs more than a copy."""
    try:
        image = allocate(info.shape, info.dtype)
        label = allocate(info.shape[1:], np.uint8) if info.has_label else None
    except MemoryError as error:
        raise BudgetError(f"the machine has no memory for {info.size_bytes} bytes, which warp.max_bytes allows; lower it") from error
    filler = ArrayFiller(_flat(image), None if label is None else _flat(label), "the volume")
    filler.add(part)
    while not part.last:
        data = next(messages, None)
        if data is None:
            raise RequestError("the call ended before its last part")
        part = _decode(data, number)
        if part.header is not None:
            raise RequestError("a second header; only the first part of an item has one")
        filler.add(part)
    return Volume(info=info, image=image, label=label)


def _decode(data: bytes, number: int) -> Part:
    part = decode_part(data)
    if part.step != number:
        raise RequestError(f"a part of item {part.step} came instead; items are numbered 0, 1, ... and sent one after the other")
    return part


def _parse(data: memoryview) -> pb.WarpItem:
    try:
        header: pb.WarpItem = pb.WarpItem.FromString(bytes(data))
    except DecodeError as error:
        raise RequestError(f"its header of {len(data)} bytes cannot be read: {error}") from error
    refuse_unknown_fields(header, "header")
    return header


def _input(header: pb.WarpItem, number: int) -> VolumeInfo:
    shape = tuple(header.image_shape)
    if len(shape) != 4 or 0 in shape or shape[0] > MAX_CHANNELS or math.prod(shape[1:]) > MAX_VOXELS:
        raise RequestError(
            f"image_shape must be C, Z, Y, X with 1 to {MAX_CHANNELS} channels of 1 to {MAX_VOXELS} voxels, got {_shown(shape)}"
        )
    if header.image_dtype not in INPUT_TYPES:
        raise RequestError(f"image_dtype must be {' or '.join(INPUT_TYPES)}, got {header.image_dtype[:80]!r}; convert it before")
    return VolumeInfo(
        id=f"item {number}",
        shape=(shape[0], shape[1], shape[2], shape[3]),
        dtype=header.image_dtype,
        spacing_mm=(1.0, 1.0, 1.0),
        affine=np.eye(4),
        has_label=header.has_label,
    )


def _output(header: pb.WarpItem, limits: LimitConfig) -> tuple[Shape3, str]:
    """(Z, Y, X) and dtype of the result."""
    sizes = tuple(header.output_shape)
    if len(sizes) != 3 or 0 in sizes:
        raise PatchError(f"output_shape must be three sizes Z, Y, X of 1 or more voxels, got {_shown(sizes)}; for 2-D use Z = 1")
    if math.prod(sizes) > limits.max_patch_voxels:
        raise BudgetError(
            f"output_shape {sizes} has {math.prod(sizes)} voxels, more than limits.max_patch_voxels = {limits.max_patch_voxels}; "
            "ask for a smaller one, or raise the limit"
        )
    dtype = _OUTPUT_DTYPES.get(header.output_dtype)
    if dtype is None:
        raise RequestError(f"output_dtype must be one of {', '.join(pb.ImageDtype.keys())}, got number {header.output_dtype}")
    if header.interpolation not in pb.Interpolation.values():
        raise RequestError(f"interpolation must be one of {', '.join(pb.Interpolation.keys())}, got number {header.interpolation}")
    return (sizes[0], sizes[1], sizes[2]), dtype


def _params(transform: pb.Transform, number: int, channels: int) -> SampleParams:
    if len(transform.affine) != 12:
        raise GeometryError(f"transform.affine must be 12 numbers, 3x4 row by row, got {len(transform.affine)}")
    window = (transform.window_low, transform.window_high) if _pair(transform, "window_low", "window_high") else None
    occluded = _pair(transform, "occlusion_start", "occlusion_stop")
    return SampleParams(
        index=number,
        volume=f"item {number}",
        affine=np.array(transform.affine, np.float32).reshape(3, 4),
        fill=transform.fill,
        contrast=transform.contrast if transform.HasField("contrast") else 1.0,
        pivot=transform.pivot,
        brightness=transform.brightness,
        gamma=transform.gamma if transform.HasField("gamma") else 1.0,
        noise_std=transform.noise_std,
        noise_key=transform.noise_key if transform.HasField("noise_key") else number,
        window=window,
        occlusion=(transform.occlusion_start, transform.occlusion_stop) if occluded else None,
        occlusion_label=None if transform.keep_occluded_label else transform.occlusion_label,
        keep_labels=frozenset(transform.keep_labels) or None,
        label_rule=transform.label_rule or LABEL_RULES[0],
        outside_label=transform.outside_label,
        border=transform.border or BORDERS[0],
        fills=tuple(transform.fills) or None,
        ignore_label=transform.ignore_label if transform.HasField("ignore_label") else None,
        steps=applied_steps(transform.steps, channels),
    )


def _pair(transform: pb.Transform, first: str, second: str) -> bool:
    """Whether both optional fields are there."""
    if transform.HasField(first) != transform.HasField(second):
        raise RecipeError(f"transform.{first} and transform.{second} go together; give both or none")
    return bool(transform.HasField(first))


def _shown(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"{len(shape)} numbers"


def _flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)
