"""The few driver calls that pycuda 2026.1 lacks or crashes in, through ctypes; and what kind of failure an error is.

Lacking: texture objects (texture references are gone from CUDA 13). Crashing: registering host memory. All need a current context.
pycuda's errors carry no code, so that the driver itself is asked whether the device is lost.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import importlib.util
from typing import Any

LIBRARY = "libcuda.so.1"
OUT_OF_MEMORY = 2
PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE: pinned for every device's context
RESOURCE_ARRAY, ADDRESS_BORDER, FILTER_LINEAR = 0, 3, 1  # enums of cuda.h


class DriverError(Exception):
    """A driver call made through ctypes failed.

    Attributes:
        code: CUresult.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} failed: {error_text(code)}")
        self.code = code


class Failure(enum.Enum):
    """What may follow an error of the driver."""

    MEMORY = "memory"  # something may be freed and the call repeated
    PLAIN = "plain"  # the device goes on; this call did not happen
    STICKY = "sticky"  # the device is lost to this process, which must be started again


@functools.cache
def library() -> Any:
    """The driver. Raises OSError where there is none."""
    return ctypes.CDLL(LIBRARY)


def may_open() -> bool:
    """Whether opening the backend could get as far as a device; asks no device, which would take some of its memory."""
    if importlib.util.find_spec("pycuda") is None:
        return False
    try:
        library()
    except OSError:
        return False
    return True


def error_text(code: int) -> str:
    """The driver's words for a CUresult."""
    text = ctypes.c_char_p()
    if library().cuGetErrorString(ctypes.c_int(code), ctypes.byref(text)) != 0 or text.value is None:
        return f"CUresult {code}"
    return f"{text.value.decode()} (CUresult {code})"


def classify(error: BaseException) -> Failure:
    """Say what an error of pycuda or of this module means, after all work of the current context has ended.

    On return nothing that was enqueued is still reading or writing memory, unless the device is lost.
    """
    # Asked twice: a device that is lost says so every time, a call that merely failed does not.
    if library().cuCtxSynchronize() != 0 and library().cuCtxSynchronize() != 0:
        return Failure.STICKY
    import pycuda.driver

    if isinstance(error, pycuda.driver.MemoryError) or getattr(error, "code", None) == OUT_OF_MEMORY:
        return Failure.MEMORY
    return Failure.PLAIN


def register_host(address: int, size_bytes: int) -> None:
    """Pin pages of host memory for copies of every device. Raises DriverError."""
    _call("cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_uint(PORTABLE))


def unregister_host(address: int) -> None:
    """Undo `register_host`. No copy of this memory may be in flight. Raises DriverError."""
    _call("cuMemHostUnregister", ctypes.c_void_p(address))


class _ResourceDescription(ctypes.Structure):
    """CUDA_RESOURCE_DESC with its union seen as an array."""

    _fields_ = (("type", ctypes.c_int), ("array", ctypes.c_void_p), ("rest", ctypes.c_byte * 120), ("flags", ctypes.c_uint))


class _TextureDescription(ctypes.Structure):
    """CUDA_TEXTURE_DESC."""

    _fields_ = (
        ("address_mode", ctypes.c_int * 3),
        ("filter_mode", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("max_anisotropy", ctypes.c_uint),
        ("mipmap_filter_mode", ctypes.c_int),
        ("mipmap_level_bias", ctypes.c_float),
        ("min_mipmap_level", ctypes.c_float),
        ("max_mipmap_level", ctypes.c_float),
        ("border_color", ctypes.c_float * 4),
        ("reserved", ctypes.c_int * 12),
    )


def create_texture(array_handle: int) -> int:
    """A texture object on a 3-D array: trilinear, voxel coordinates, 0 outside, int16 read as v / 32767.

    Args:
        array_handle: CUarray, of pycuda's Array.handle; must outlive the texture.
    Returns:
        The CUtexObject, for `destroy_texture`.
    Raises:
        DriverError: the driver refuses.
    """
    resource = _ResourceDescription(type=RESOURCE_ARRAY, array=array_handle)
    how = _TextureDescription(filter_mode=FILTER_LINEAR)
    how.address_mode[:] = [ADDRESS_BORDER] * 3
    texture = ctypes.c_ulonglong()
    _call("cuTexObjectCreate", ctypes.byref(texture), ctypes.byref(resource), ctypes.byref(how), None)
    return texture.value


def destroy_texture(texture: int) -> None:
    """Free a texture object that no kernel uses any more. Raises DriverError."""
    _call("cuTexObjectDestroy", ctypes.c_ulonglong(texture))


def _call(function: str, *arguments: Any) -> None:
    code = getattr(library(), function)(*arguments)
    if code != 0:
        raise DriverError(function, code)
