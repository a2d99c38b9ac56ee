"""One device's first-in first-out queue: while one batch is computed, the next one's volumes travel up and the last one's results down.

    submit -> queue -> owner thread: takes a free slot, enqueues -> drainer thread: waits for `done`, in order -> ticket
                           ^----------------- slot ------------------------'

Only the owner thread allocates, launches and frees. A full queue blocks the submitter. Results go straight into the caller's arrays.
A device that is lost (a sticky error) fails every batch in flight and every later one at once.
"""

from __future__ import annotations

import logging
import mmap
import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import DTypeLike, NDArray

from augserver.config import CudaConfig
from augserver.errors import AugError, BackendError, BudgetError, UnavailableError
from augserver.kernel.batch import PackedBatch
from augserver.kernel.cuda import driver as cuda_driver
from augserver.kernel.cuda.arena import aligned
from augserver.kernel.cuda.device import MAX_SAMPLES, Device, Slot
from augserver.kernel.cuda.driver import Failure
from augserver.kernel.cuda.pinned import PinnedArrays
from augserver.kernel.cuda.programs import check_programs
from augserver.kernel.cuda.residency import ResidencyStatistics
from augserver.kernel.cuda.sizes import DeviceSizes, resolve_sizes
from augserver.kernel.cuda.ticket import Errand, Ticket

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FifoStatistics:
    """Numbers of one device's queue.

    Attributes:
        batches: that have ended; `failed` of them with an error.
        waiting, in_flight: batches before the device, and on it.
        direct_bytes, staged_bytes: of volumes that went up from pinned memory, and through the staging ring; textures not counted.
        volumes, textures: on the device.
    """

    batches: int
    failed: int
    waiting: int
    in_flight: int
    direct_bytes: int
    staged_bytes: int
    volumes: ResidencyStatistics
    textures: ResidencyStatistics


class CudaFifo:
    """The queue of one device, with its two threads.

    Args:
        ordinal: of the device, as CUDA counts.
        fatbin: the compiled kernels.
        config: slots, queue and memory.
        on_lost: called once, from a thread of the queue, when the device is lost; it must not close the queue.
        pinned: of all queues of a backend.
        keeper: whether this queue pins and unpins for all of them; it is closed last.
    Raises:
        BackendError: the device cannot run the kernels.
        BudgetError: the device has not as much memory as `config` asks for.
        UnavailableError: the device is lost.
    """

    def __init__(
        self,
        ordinal: int,
        fatbin: bytes,
        config: CudaConfig,
        *,
        on_lost: Callable[[UnavailableError], None],
        pinned: PinnedArrays,
        keeper: bool,
    ) -> None:
        self.name = f"cuda:{ordinal}"
        self.sizes: DeviceSizes
        self._ordinal = ordinal
        self._config = config
        self._on_lost = on_lost
        self._pinned = pinned
        self._keeper = keeper
        self._submitting = threading.Lock()  # held while a submitter waits: batches enter in the order of the calls
        self._state = threading.Lock()
        self._room = threading.Semaphore(config.queue)
        # SimpleQueue: its put() may be called by the garbage collector in the middle of another put().
        self._work: queue.SimpleQueue[Ticket | Errand | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        self._flight: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._closed = False
        self._lost = ""
        self._ended = self._failed = self._waiting = self._in_flight = 0
        self._device: Device
        started: queue.SimpleQueue[AugError | None] = queue.SimpleQueue()
        self._owner = threading.Thread(target=self._own, args=(fatbin, started), name=f"{self.name}-owner", daemon=True)
        self._owner.start()
        failure = started.get()
        if failure is not None:
            self._owner.join()
            raise failure

    def submit(self, batch: PackedBatch) -> Ticket:
        """Enqueue a batch; blocks while the queue is full. The batch's arrays belong to the queue until the ticket has ended.

        Raises:
            UnavailableError: the device is lost.
            BackendError: the queue is closed.
            BudgetError: the batch is larger than a slot, or its programs than the memory for them.
        """
        self._check_size(batch)
        ticket = Ticket(batch)
        with self._submitting:
            self._room.acquire()
            with self._state:
                if self._lost or self._closed:
                    self._room.release()
                    raise self._gone()
                self._waiting += 1
                self._work.put(ticket)
        return ticket

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of garbage in pinned memory; see PinnedArrays.allocate.

        Raises:
            UnavailableError, BackendError: as `submit`; or the driver cannot pin as much.
        """
        return self._make_array(lambda: self._pinned.allocate(shape, dtype))

    def share(self, pages: mmap.mmap) -> NDArray[np.uint8]:
        """All bytes of mapped pages, pinned; errors as `allocate`."""
        return self._make_array(lambda: self._pinned.adopt(pages))

    def _make_array(self, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        errand = Errand(make)
        with self._state:
            if self._lost or self._closed:
                raise self._gone()
            self._work.put(errand)
        array: NDArray[Any] = errand.wait()
        return array

    def wake(self) -> None:
        """Have the owner thread free the pinned memory that has expired. Callable from garbage collection."""
        self._work.put(Errand(lambda: None))

    def statistics(self) -> FifoStatistics:
        """Numbers at this moment."""
        memory = self._device.memory
        with self._state:
            return FifoStatistics(
                batches=self._ended,
                failed=self._failed,
                waiting=self._waiting,
                in_flight=self._in_flight,
                direct_bytes=memory.direct_bytes,
                staged_bytes=memory.staged_bytes,
                volumes=memory.volumes.statistics(),
                textures=memory.textures.statistics(),
            )

    def close(self) -> None:
        """Finish what was submitted, end the threads and free everything. May be called twice; not by `on_lost`."""
        with self._state:
            if not self._closed:
                self._closed = True
                self._work.put(None)
        self._owner.join()

    # ---- owner thread -------------------------------------------------------------------------------------------------------------

    def _own(self, fatbin: bytes, started: queue.SimpleQueue[AugError | None]) -> None:
        try:
            context = cuda.Device(self._ordinal).make_context(cuda.ctx_flags.SCHED_BLOCKING_SYNC)
        except cuda.Error as error:
            started.put(BackendError(f"{self.name}: no context on this device ({error}); `nvidia-smi` shows whether it works"))
            return
        try:
            try:
                drainer = self._start(context, fatbin)
            except Exception as error:
                typed = self._explain(error)
                _drop_frames(error)
                started.put(typed)
                return
            started.put(None)
            self._serve()
            self._flight.put(None)
            drainer.join()
            self._device.close()
            if self._keeper:
                self._pinned.free_all()
        except Exception as error:  # while closing; a lost device has nothing left to free
            if not self._lost:
                _log.error("%s: not everything was freed: %s", self.name, error)
        finally:
            # A thread that ends with a context pushed aborts the process (pycuda).
            cuda.Context.pop()
            context.detach()

    def _start(self, context: Any, fatbin: bytes) -> threading.Thread:
        free_bytes, total_bytes = cuda.mem_get_info()
        self.sizes = resolve_sizes(self._config, free_bytes=free_bytes, total_bytes=total_bytes)
        self._device = Device(self.name, fatbin, self.sizes, self._pinned)
        for slot in self._device.slots:
            self._free.put(slot)
        ready: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        drainer = threading.Thread(target=self._drain, args=(context, ready), name=f"{self.name}-drainer", daemon=True)
        drainer.start()
        failure = ready.get()
        if failure is not None:
            drainer.join()
            self._device.close()
            raise failure
        return drainer

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            self._free_expired()
            if isinstance(item, Errand):
                item.run(self._explain)
                del item  # with what it made: this thread may wait for long now
                continue
            slot = self._free.get()
            with self._state:
                self._waiting -= 1
                self._in_flight += 1
            self._room.release()
            slot.ticket = item
            try:
                if self._lost:
                    raise self._gone()
                self._device.enqueue(slot, item.batch)
            except Exception as error:
                self._end(slot, self._explain(error))
            else:
                self._flight.put(slot)
            del item

    def _free_expired(self) -> None:
        if self._lost or not self._keeper:
            return
        try:
            self._pinned.free_expired()
        except cuda_driver.DriverError as error:
            _log.error("%s: memory stays pinned: %s", self.name, self._explain(error))

    # ---- drainer thread -----------------------------------------------------------------------------------------------------------

    def _drain(self, context: Any, ready: queue.SimpleQueue[Exception | None]) -> None:
        try:
            context.push()
        except cuda.Error as error:
            ready.put(error)
            return
        ready.put(None)
        try:
            while (slot := self._flight.get()) is not None:
                try:
                    slot.done.synchronize()
                except cuda.Error as error:
                    self._end(slot, self._explain(error))
                else:
                    self._end(slot, None)
        finally:
            cuda.Context.pop()

    # ---- both ---------------------------------------------------------------------------------------------------------------------

    def _end(self, slot: Slot, error: AugError | None) -> None:
        """Make a slot free again and end its batch. Nothing that was enqueued for it may still be running."""
        ticket, slot.ticket = slot.ticket, None
        residents, slot.residents = slot.residents, []
        assert ticket is not None
        batch = ticket.batch
        self._device.memory.residency(batch.sampler).release(residents)
        with self._state:
            self._in_flight -= 1
            self._ended += 1
            self._failed += error is not None
        self._free.put(slot)
        if error is None and batch.out_label is not None:
            for k, volume in enumerate(batch.volumes):
                if volume.label is None:
                    batch.out_label[k] = 0  # the kernel writes labels of labelled volumes only
        ticket.finish(error)

    def _explain(self, error: Exception) -> AugError:
        """The typed error for one of the driver, and whether it has lost the device. Nothing enqueued is running afterwards."""
        if isinstance(error, AugError):
            return error
        if isinstance(error, MemoryError):
            return BudgetError(f"the machine has no memory for an array ({error}); ask for a smaller output or batch")
        kind = cuda_driver.classify(error)
        if kind is Failure.STICKY:
            return self._lose(error)
        if kind is Failure.MEMORY:
            return BudgetError(f"{self.name} has no memory left ({error}); lower cuda.volume_bytes, or end other processes that use it")
        return BackendError(f"{self.name} refused a call ({error}); what it was for is not done, what comes later is not affected")

    def _lose(self, error: Exception) -> UnavailableError:
        text = (
            f"{self.name} is lost to this process ({error}); its batches cannot be finished here, and the process must be started again: "
            f"ask again in a moment, or elsewhere"
        )
        with self._state:
            first = not self._lost
            self._lost = self._lost or text
        if first:
            try:
                self._on_lost(UnavailableError(text))
            except Exception:  # the queue's thread must live on: it owes every caller an end
                _log.exception("%s: on_lost failed", self.name)
        return UnavailableError(text)

    def _gone(self) -> AugError:
        if self._lost:
            return UnavailableError(self._lost)
        return BackendError(f"backend 'cuda' ({self.name}) is closed; open another one")

    def _check_size(self, batch: PackedBatch) -> None:
        size = aligned(batch.out_image.nbytes) + (0 if batch.out_label is None else batch.out_label.nbytes)
        if size > self.sizes.slot_bytes:
            raise BudgetError(
                f"{self.name}: a batch of {size} bytes is larger than cuda.slot_bytes = {self.sizes.slot_bytes}; raise it to at least "
                f"{size}, or ask for a smaller batch, a smaller patch or a smaller image_dtype"
            )
        if len(batch.rows) > MAX_SAMPLES:
            raise BudgetError(f"{self.name}: {len(batch.rows)} samples in a batch; allowed: {MAX_SAMPLES}; ask for a smaller batch")
        check_programs(batch, self.sizes, self.name)


def _drop_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error and its causes hold: streams and memory that must be freed while the context lives."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
