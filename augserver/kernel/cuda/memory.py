"""A device's memory besides the slots: the arena of volumes, textures of them, the staging ring.

exact    image | label in one piece of the arena
texture  a CUDA array and a texture object per channel, and a block with the table of texture objects and the label
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from augserver.kernel.cuda import driver as cuda_driver
from augserver.kernel.cuda.arena import Arena, aligned
from augserver.kernel.cuda.pinned import PinnedArrays
from augserver.kernel.cuda.residency import Residency
from augserver.kernel.cuda.sizes import DeviceSizes
from augserver.kernel.cuda.staging import Staging
from augserver.volume import Volume

HANDLE_BYTES = 8


@dataclass(slots=True, kw_only=True)
class Place:
    """Where a volume lies.

    Attributes:
        image: device address of the voxels, or of the table of texture objects.
        label: device address, 0 without a label.
    """

    image: int
    label: int


@dataclass(slots=True, kw_only=True)
class _TexturePlace(Place):
    block: Any
    arrays: list[Any] = field(default_factory=list)
    textures: list[int] = field(default_factory=list)


class DeviceMemory:
    """Belongs to the owner thread of the device, except the residencies' `release` and `statistics`.

    Volumes in pinned memory go up directly, all others through the staging ring.

    Args:
        sizes: budgets.
        h2d: the stream that all uploads go through, in order.
        pinned: knows which host memory is pinned.
    Raises:
        pycuda.driver.MemoryError: the device has not as much.
    """

    def __init__(self, sizes: DeviceSizes, h2d: Any, pinned: PinnedArrays) -> None:
        self._h2d = h2d
        self._arena = Arena(sizes.volume_bytes)
        self._staging = Staging(sizes.staging_bytes)
        try:
            self._block = cuda.mem_alloc(max(self._arena.size_bytes, 1))
        except BaseException:
            self._staging.close()
            raise
        self._pinned = pinned
        self.direct_bytes = self.staged_bytes = 0  # uploaded since the start
        self.volumes = Residency(
            self._arena.size_bytes, "cuda.volume_bytes", size_of=_exact_bytes, load=self._load_voxels, drop=self._drop_voxels
        )
        self.textures = Residency(
            sizes.texture_bytes, "cuda.texture_bytes", size_of=_texture_bytes, load=self._load_texture, drop=self._drop_texture
        )

    def residency(self, sampler: str) -> Residency:
        """Of the volumes as `sampler` ("exact" or "texture") reads them."""
        return self.textures if sampler == "texture" else self.volumes

    def close(self) -> None:
        """Free everything; nothing may be in flight."""
        self._block.free()
        self._staging.close()
        self.volumes.clear()
        self.textures.clear()
        self._h2d = None

    def _load_voxels(self, volume: Volume) -> Place | None:
        offset = self._arena.take(_exact_bytes(volume))
        if offset is None:
            return None
        image = int(self._block) + offset
        label = image + aligned(volume.image.nbytes)
        try:
            self._copy(image, volume.image)
            if volume.label is not None:
                self._copy(label, volume.label)
        except BaseException:
            self._arena.give(offset)
            raise
        return Place(image=image, label=0 if volume.label is None else label)

    def _copy(self, address: int, array: NDArray[Any]) -> None:
        if self._pinned.is_pinned(array):
            self.direct_bytes += array.nbytes
            cuda.memcpy_htod_async(address, array.reshape(-1).view(np.uint8), self._h2d)
        else:
            self.staged_bytes += array.nbytes
            self._staging.copy(address, array, self._h2d)

    def _drop_voxels(self, place: Place) -> None:
        self._arena.give(place.image - int(self._block))

    def _load_texture(self, volume: Volume) -> _TexturePlace | None:
        label_bytes = 0 if volume.label is None else volume.label.nbytes
        try:
            block = cuda.mem_alloc(_table_bytes(volume) + label_bytes)
        except cuda.MemoryError:
            return None  # evict and try again
        place = _TexturePlace(image=int(block), label=int(block) + _table_bytes(volume) if label_bytes else 0, block=block)
        try:
            for channel in volume.image:
                place.arrays.append(cuda.Array(_array_shape(channel)))
                self._fill(place.arrays[-1], channel)
                place.textures.append(cuda_driver.create_texture(place.arrays[-1].handle))
            self._staging.copy(place.image, np.array(place.textures, np.uint64), self._h2d)
            if volume.label is not None:
                self._staging.copy(place.label, volume.label, self._h2d)
        except cuda.MemoryError:
            self._drop_texture(place)
            return None
        except BaseException:
            self._drop_texture(place)
            raise
        return place

    def _drop_texture(self, place: _TexturePlace) -> None:
        try:
            while place.textures:
                cuda_driver.destroy_texture(place.textures.pop())
        finally:
            while place.arrays:
                place.arrays.pop().free()
            place.block.free()

    def _fill(self, array: Any, channel: Any) -> None:
        """Copy one channel (Z, Y, X) into a CUDA array: whole planes at a time where they fit a chunk, else rows of one plane."""
        depth, height, width = channel.shape
        row_bytes = width * channel.itemsize
        rows = min(height, self._staging.chunk_bytes // row_bytes)
        planes = max(self._staging.chunk_bytes // (height * row_bytes), 1)
        job = cuda.Memcpy3D()
        job.set_dst_array(array)
        job.width_in_bytes = job.src_pitch = row_bytes
        for z in range(0, depth, planes):
            for y in range(0, height, rows):
                piece = channel[z : z + planes, y : y + rows]
                job.dst_z, job.dst_y = z, y
                job.depth, job.height = piece.shape[:2]
                job.src_height = job.height
                self._staging.stage(piece, self._h2d, functools.partial(_run_job, job, self._h2d))


def _run_job(job: Any, stream: Any, chunk: Any) -> None:
    job.set_src_host(chunk)
    job(stream)


def _exact_bytes(volume: Volume) -> int:
    return aligned(volume.image.nbytes) + (0 if volume.label is None else aligned(volume.label.nbytes))


def _table_bytes(volume: Volume) -> int:
    return aligned(HANDLE_BYTES * len(volume.image))


def _texture_bytes(volume: Volume) -> int:
    return volume.image.nbytes + _table_bytes(volume) + (0 if volume.label is None else volume.label.nbytes)


def _array_shape(channel: Any) -> Any:
    shape = cuda.ArrayDescriptor3D()
    shape.depth, shape.height, shape.width = channel.shape
    shape.format = cuda.array_format.SIGNED_INT16 if channel.dtype == np.int16 else cuda.array_format.FLOAT
    shape.num_channels = 1
    shape.flags = 0
    return shape
