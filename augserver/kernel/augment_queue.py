"""Push batches, pop results: a bounded first-in first-out queue on any backend, in process.

    push(batch 0) push(batch 1) push(batch 2)      pop() -> batch 0      push(batch 3)      pop() -> batch 1 ...

As many batches are computed at once as the queue is deep; results come in the order of the pushes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import BudgetError, StateError
from augserver.kernel.backend import Backend
from augserver.kernel.batch import pack_batch
from augserver.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """Batches pushed and not yet popped, and how many there may be."""

    waiting: int
    depth: int


class AugmentQueue:
    """A queue of batches on a backend. Any thread may push and any may pop.

    A push that raises leaves nothing behind. A batch that fails on the device raises where it is popped, in its turn, and the queue goes
    on. The arrays of a batch belong to the queue from its push to its pop.

    Args:
        backend: where batches are computed; stays open.
        depth: pushed and not yet popped at most, >= 1; three keep a GPU's copies and kernel busy at once.
    """

    def __init__(self, backend: Backend, *, depth: int = 3) -> None:
        if depth < 1:
            raise StateError(f"depth of a queue is {depth}; allowed: 1 or more")
        self._backend = backend
        self._depth = depth
        self._changed = threading.Condition()
        self._order: deque[tuple[Future[None], NDArray[Any], NDArray[np.uint8] | None]] = deque()
        self._reserved = 0  # places of pushes that allocate and check their batch
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(depth, thread_name_prefix="augment-queue")

    def push(
        self,
        volumes: Sequence[Volume],
        params: Sequence[SampleParams],
        shape: tuple[int, int, int],
        *,
        image_dtype: DTypeLike = np.float32,
        label: bool = False,
        nearest: bool = False,
        timeout_s: float | None = 0.0,
    ) -> None:
        """Put a batch in; returns before it is computed.

        Args:
            volumes, params, nearest: see Backend.augment.
            shape: (Z, Y, X) of the patches.
            image_dtype: float32, float16 or uint8.
            label: whether labels are wanted too.
            timeout_s: how long to wait for another thread's pop while the queue is full; None: for ever.
        Raises:
            RequestError, GeometryError, RecipeError: the batch is not allowed.
            BudgetError: the queue is full.
            StateError: the queue is closed.
        """
        with self._place(timeout_s):  # before anything is allocated: those who wait for a place must not hold results
            channels = volumes[0].image.shape[0] if volumes else 0
            out_image = self._backend.allocate((len(volumes), channels, *shape), image_dtype)
            out_label = self._backend.allocate((len(volumes), *shape), np.uint8) if label else None
            pack_batch(volumes, params, out_image, out_label, nearest=nearest)  # refuses here and not at the pop
            with self._changed:
                if self._pool is None:
                    raise StateError("the queue is closed; open another one")
                work = self._pool.submit(self._backend.augment, tuple(volumes), tuple(params), out_image, out_label, nearest=nearest)
                self._order.append((work, out_image, out_label))

    @contextmanager
    def _place(self, timeout_s: float | None) -> Iterator[None]:
        """Hold one of the queue's places while the block runs."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._pool is None or len(self._order) + self._reserved < self._depth, timeout_s):
                raise BudgetError(f"the queue holds {self._depth} batches, its depth; pop one first, or give timeout_s to wait for a pop")
            if self._pool is None:
                raise StateError("the queue is closed; open another one")
            self._reserved += 1
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= 1
                self._changed.notify_all()

    def pop(self) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """The results of the oldest batch: image (N, C, Z, Y, X) and label (N, Z, Y, X) or None. Waits until they are computed.

        Raises:
            StateError: the queue is empty.
            AugError: the batch failed; it has left the queue.
        """
        with self._changed:
            if not self._order:
                raise StateError("pop from an empty queue; push a batch first")
            work, out_image, out_label = self._order.popleft()
            self._changed.notify_all()
        work.result()
        return out_image, out_label

    def statistics(self) -> QueueStatistics:
        """Numbers at this moment."""
        with self._changed:
            return QueueStatistics(waiting=len(self._order), depth=self._depth)

    def close(self) -> None:
        """Finish what was pushed and end the threads; what was not popped is dropped. May be called twice."""
        with self._changed:
            pool, self._pool = self._pool, None
            self._changed.notify_all()
        if pool is not None:
            pool.shutdown()
        self._order.clear()

    def __enter__(self) -> AugmentQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
