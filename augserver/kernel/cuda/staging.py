"""Copy pageable host memory to the device through a ring of pinned chunks, so that the copy itself never blocks the caller's stream.

host array --memcpy--> chunk k --H2D stream--> device        while chunk k + 1 is filled, chunk k travels
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

CHUNKS = 4  # two travel or wait while one is filled; more hides nothing
EVENT_FLAGS = cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING


class Staging:
    """Pinned chunks of one device. Belongs to the owner thread.

    Args:
        size_bytes: of all chunks together.
    Raises:
        pycuda.driver.Error: the driver cannot give as much.
    """

    def __init__(self, size_bytes: int) -> None:
        self.chunk_bytes = size_bytes // CHUNKS
        self._chunks: list[Any] = []
        self._events: list[Any] = []
        self._next = 0
        try:
            for _ in range(CHUNKS):
                self._chunks.append(cuda.pagelocked_empty(self.chunk_bytes, np.uint8))
                self._events.append(cuda.Event(EVENT_FLAGS))
        except BaseException:
            self.close()
            raise

    def copy(self, device: int, array: NDArray[Any], stream: Any) -> None:
        """Enqueue a copy of a C-contiguous array to device address `device`; the array may change or die once this returns."""
        source = array.reshape(-1).view(np.uint8)
        for first in range(0, source.size, self.chunk_bytes):
            copy_up = functools.partial(_copy_up, device + first, stream)
            self.stage(source[first : first + self.chunk_bytes], stream, copy_up)

    def stage(self, piece: NDArray[Any], stream: Any, enqueue: Callable[[NDArray[np.uint8]], None]) -> None:
        """Copy `piece`, of at most `chunk_bytes`, into a free chunk and call `enqueue` with it, which copies on from there in `stream`."""
        chunk, event = self._chunks[self._next], self._events[self._next]
        self._next = (self._next + 1) % CHUNKS
        event.synchronize()
        filled = chunk[: piece.nbytes]
        np.copyto(filled.view(piece.dtype).reshape(piece.shape), piece)
        enqueue(filled)
        event.record(stream)

    def close(self) -> None:
        """Free the chunks; no copy may be in flight."""
        for chunk in self._chunks:
            chunk.base.free()
        self._chunks.clear()
        self._events.clear()


def _copy_up(address: int, stream: Any, chunk: NDArray[np.uint8]) -> None:
    cuda.memcpy_htod_async(address, chunk, stream)
